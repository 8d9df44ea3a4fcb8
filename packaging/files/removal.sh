# Before the program goes: nobody is to be let in who would wait for it. A stream that runs is ended, as
# by `systemctl stop`.
if command -v systemctl >/dev/null; then
  for unit in /etc/systemd/system/*.wants/nbd-streaming.socket \
    /etc/systemd/system/*.wants/nbd-streaming@*.socket; do
    [ ! -L "$unit" ] || systemctl --no-reload disable "${unit##*/}" || :
  done
  if [ -d /run/systemd/system ]; then
    systemctl stop nbd-streaming.socket 'nbd-streaming@*.socket' || :
  fi
fi
