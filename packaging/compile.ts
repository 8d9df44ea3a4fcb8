/** How Bun makes one file of a program: what comes before the names of its sources. */
export const COMPILE = [
  ...["build", "--compile", "--minify"],
  // Parsed already: the program starts in less than half of the time. ESM, for `await` in main.ts.
  ...["--bytecode", "--format=esm"],
  // What only some commands need is loaded by those.
  "--splitting",
  // Files of the folder in which somebody starts the program are not its business.
  ...["--no-compile-autoload-dotenv", "--no-compile-autoload-bunfig"],
];
