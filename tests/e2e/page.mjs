// Pages of docs/ that a test follows to the letter.

/** The code blocks of a page, in order: what it is, what is said of it, its text and its line. */
export function blocksOf(page) {
  const blocks = [];
  let open = null;
  page.split('\n').forEach((line, at) => {
    const fence = line.match(/^```(\w*) ?(.*)$/);
    if (open && line === '```') open = null;
    else if (fence && !open) blocks.push((open = { language: fence[1], mark: fence[2], text: '', line: at + 1 }));
    else if (open) open.text += `${line}\n`;
  });
  return blocks;
}
