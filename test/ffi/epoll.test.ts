import { expect, test } from "bun:test";
import { EPOLLIN, EPOLLRDHUP, O_CLOEXEC, POLLHUP, POLLIN } from "../../ffi/constants.ts";
import { EpollSet } from "../../ffi/epoll.ts";
import { pollOne } from "../../ffi/poll.ts";
import { shutdownWrite } from "../../ffi/socket.ts";
import { Descriptors, flagsOf, readAll, thrownBy, writeAll } from "./descriptors.ts";

/** What there is to report, by descriptor. */
function taken(set: EpollSet): Map<number, number> {
  const found = new Map<number, number>();
  set.take((fd, events) => found.set(fd, events));
  return found;
}

/** True when poll(2) says that the set has something to report. */
function isReadable(set: EpollSet): boolean {
  return pollOne(set.fd, POLLIN) !== 0;
}

class Fixture extends Descriptors {
  readonly set = new EpollSet();

  override [Symbol.dispose](): void {
    this.set.close();
    super[Symbol.dispose]();
  }
}

test("an empty set reports nothing, and no child inherits it", () => {
  using fixture = new Fixture();
  expect(taken(fixture.set)).toEqual(new Map());
  expect(isReadable(fixture.set)).toBeFalse();
  expect(flagsOf(fixture.set.fd) & O_CLOEXEC).toBe(O_CLOEXEC);
});

test("only the descriptor that has input is reported, until it is read", () => {
  using fixture = new Fixture();
  const [one, peer] = fixture.socketpair();
  const [other] = fixture.socketpair();
  fixture.set.add(one);
  fixture.set.add(other);
  expect(isReadable(fixture.set)).toBeFalse();
  writeAll(peer, Buffer.from("x"));
  expect(isReadable(fixture.set)).toBeTrue();
  for (let i = 0; i < 2; i++) expect(taken(fixture.set)).toEqual(new Map([[one, EPOLLIN]]));
  readAll(one);
  expect(taken(fixture.set)).toEqual(new Map());
});

test("a peer that has finished sending is reported, and one that is gone as POLLHUP", () => {
  using fixture = new Fixture();
  const [one, finished] = fixture.socketpair();
  const [other, gone] = fixture.socketpair();
  fixture.set.add(one);
  fixture.set.add(other);
  shutdownWrite(finished);
  fixture.close(gone);
  const found = taken(fixture.set);
  expect(found.get(one)).toBe(EPOLLIN | EPOLLRDHUP);
  expect(found.get(other)).toBe(EPOLLIN | EPOLLRDHUP | POLLHUP);
});

test("a descriptor that was removed is not reported", () => {
  using fixture = new Fixture();
  const [one, peer] = fixture.socketpair();
  fixture.set.add(one);
  writeAll(peer, Buffer.from("x"));
  fixture.set.remove(one);
  expect(taken(fixture.set)).toEqual(new Map());
  fixture.set.add(one);
  expect(taken(fixture.set).size).toBe(1);
});

test("at most 64 are reported at a time, and the others after them", () => {
  using fixture = new Fixture();
  const left = new Set<number>();
  for (let i = 0; i < 100; i++) {
    const [one, peer] = fixture.socketpair();
    fixture.set.add(one);
    writeAll(peer, Buffer.from("x"));
    left.add(one);
  }
  const first = taken(fixture.set);
  expect(first.size).toBe(64);
  for (const fd of first.keys()) {
    fixture.set.remove(fd);
    left.delete(fd);
  }
  expect(new Set(taken(fixture.set).keys())).toEqual(left);
});

test("a descriptor that is twice in it, not in it or cannot be in it throws", () => {
  using fixture = new Fixture();
  const { set } = fixture;
  const [one, other] = fixture.socketpair();
  set.add(one);
  expect(thrownBy(() => set.add(one))).toMatchObject({ syscall: "epoll_ctl", code: "EEXIST" });
  expect(thrownBy(() => set.remove(other))).toMatchObject({ code: "ENOENT" });
  expect(thrownBy(() => set.add(-1))).toMatchObject({ code: "EBADF" });
});
