//! What a process said last: the one line of its output that most likely tells why it ended.
//!
//! Never reads anything: the end of the output comes in.

/// Most characters of the line.
const CHARS_MAX: usize = 200;

/// The last line that speaks of an error, else the last line of all; empty without output. Colours and other control
/// characters are left out.
pub(crate) fn last_words(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let mut last = String::new();
    for line in text.lines().rev().map(plain) {
        let line = line.trim();
        if line.is_empty() {
            continue;
        }
        let lower = line.to_lowercase();
        if ["error", "panicked", "fatal", "exception"].iter().any(|word| lower.contains(word)) {
            return cut(line);
        }
        if last.is_empty() {
            last = cut(line);
        }
    }
    last
}

/// The line without control characters and the escape sequences that terminals understand.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut rest = line.chars();
    while let Some(character) = rest.next() {
        if character == '\u{1b}' {
            // `ESC [ numbers letter`: a colour.
            rest.by_ref().find(|c| c.is_ascii_alphabetic());
        } else if !character.is_control() {
            text.push(character);
        }
    }
    text
}

fn cut(line: &str) -> String {
    if line.chars().count() <= CHARS_MAX {
        return line.to_owned();
    }
    line.chars().take(CHARS_MAX - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_tells_why_is_found() {
        let long = "x".repeat(300);
        let cases = [
            ("nothing was said", "", String::new()),
            ("blank lines say nothing", "listening\n\n  \n", "listening".to_owned()),
            (
                "node",
                "a.js:3\n^\n\nError: no such map\n    at main (a.js:3:7)\n\nNode.js v18.19.0\n",
                "Error: no such map".to_owned(),
            ),
            (
                "python",
                "Traceback:\n  File \"a.py\"\nValueError: bad seat\n",
                "ValueError: bad seat".to_owned(),
            ),
            ("colours", "\u{1b}[31mfatal\u{1b}[0m: no\tmap\r\n", "fatal: nomap".to_owned()),
            ("no word of error", "one\ntwo\n", "two".to_owned()),
            ("a long line is cut", &long, format!("{}…", "x".repeat(199))),
        ];
        for (name, output, expected) in cases {
            assert_eq!(last_words(output.as_bytes()), expected, "{name}");
        }
    }
}
