//! Rules about one source file: its size, its first line, words that may not stand in it.
//!
//! Never fooled by comments and texts: they are blanked before words are looked for.

/// A file past this has a second subject.
const LINES_MAX: usize = 500;

/// Crates that take time, chance and the world as arguments only.
const PURE: [&str; 3] = ["crates/core/src/", "crates/socketio/src/", "crates/room/src/"];

/// Words that may not stand in a pure crate.
const IMPURE: [&str; 13] = [
    "Instant::now",
    "SystemTime",
    "std::net",
    "std::fs",
    "std::env",
    "std::process",
    "std::thread",
    "tokio",
    "rand::rng",
    "thread_rng",
    "OsRng",
    "async fn",
    ".await",
];

/// Words that may not stand anywhere.
const NOWHERE: [(&str, &str); 5] = [
    ("todo!", "finish it"),
    ("unimplemented!", "finish it"),
    ("#[ignore", "a test runs or does not exist; assert a known fault as it is"),
    ("#[allow(", "use #[expect(.., reason = \"..\")]"),
    ("#![allow(", "use #![expect(.., reason = \"..\")]"),
];

pub(super) fn faults(path: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let lines = text.lines().count();
    if lines > LINES_MAX {
        faults.push(format!("{path}: {lines} lines, at most {LINES_MAX}; split it by subject"));
    }
    if !path.ends_with(".rs") {
        return faults;
    }
    if !text.starts_with("//!") && !path.starts_with("fuzz/") {
        faults.push(format!("{path}:1: begin with a `//!` line that says what the module owns"));
    }
    let pure = PURE.iter().any(|folder| path.starts_with(folder));
    for (index, line) in code_only(text).lines().enumerate() {
        let number = index + 1;
        for (word, instead) in NOWHERE {
            if stands_in(line, word) {
                faults.push(format!("{path}:{number}: `{word}`: {instead}"));
            }
        }
        for word in IMPURE.iter().filter(|word| pure && stands_in(line, word)) {
            faults.push(format!("{path}:{number}: `{word}` in a pure crate; take it as an argument"));
        }
    }
    faults
}

/// Whether `word` stands in `line` as a word: not as a part of a longer name.
fn stands_in(line: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let joined_before = word.starts_with(part_of_name) && before.is_some_and(part_of_name);
        let joined_after = word.ends_with(part_of_name) && after.is_some_and(part_of_name);
        !joined_before && !joined_after
    })
}

/// The text with comments, texts and character literals blanked; line breaks stay.
fn code_only(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let skipped = literal_length(rest, out.chars().next_back());
        if skipped == 0 {
            out.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            let (blanked, after) = rest.split_at(skipped);
            out.extend(blanked.chars().map(|c| if c == '\n' { '\n' } else { ' ' }));
            rest = after;
        }
    }
    out
}

/// Bytes of the comment or literal that `rest` begins with; 0 when it begins with code.
fn literal_length(rest: &str, before: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return rest.find("*/").map_or(rest.len(), |end| end + 2);
    }
    let within_name = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest.starts_with('r') && !within_name {
        let hashes = rest[1..].chars().take_while(|c| *c == '#').count();
        if rest[1 + hashes..].starts_with('"') {
            let close = format!("\"{}", "#".repeat(hashes));
            let open = 2 + hashes;
            return rest[open..].find(&close).map_or(rest.len(), |end| open + end + close.len());
        }
    }
    match rest.chars().next() {
        Some('"') => quoted(rest, '"'),
        // A lifetime has no closing quote two or more characters on.
        Some('\'') if rest[1..].starts_with('\\') => quoted(rest, '\''),
        Some('\'') => {
            let inner = rest[1..].chars().next().map_or(0, char::len_utf8);
            if inner > 0 && rest[1 + inner..].starts_with('\'') { inner + 2 } else { 0 }
        }
        _ => 0,
    }
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_comments_and_texts_do_not_count() {
        let cases = [
            ("crates/core/src/a.rs", "//! A.\nlet x = 1; // tokio\n", ""),
            ("crates/core/src/a.rs", "//! A.\nlet x = \"tokio \\\" std::fs\";\n", ""),
            ("crates/core/src/a.rs", "//! A.\nlet x = r#\"todo!(\"#; let y = '\"'; /* SystemTime */\n", ""),
            ("crates/core/src/a.rs", "//! A.\nlet r: &'a str = rngs::tokio_like();\n", ""),
            ("crates/core/src/a.rs", "//! A.\nuse tokio::time;\n", "crates/core/src/a.rs:2: `tokio`"),
            (
                "crates/room/src/a.rs",
                "//! A.\nlet a = 'x'; async fn b() {}\n",
                "crates/room/src/a.rs:2: `async fn`",
            ),
            ("crates/room/src/a.rs", "//! A.\nlet r = rand::rng();\n", "crates/room/src/a.rs:2: `rand::rng`"),
            ("crates/node/src/a.rs", "//! A.\nuse tokio::time;\n", ""),
            ("crates/node/src/a.rs", "//! A.\n#[allow(unused)]\n", "crates/node/src/a.rs:2: `#[allow(`"),
            ("crates/node/src/a.rs", "//! A.\nfn a() { todo!() }\n", "crates/node/src/a.rs:2: `todo!`"),
            ("crates/node/src/a.rs", "fn a() {}\n", "crates/node/src/a.rs:1: begin"),
        ];
        for (path, text, expected) in cases {
            let told = faults(path, text).join("\n");
            assert_eq!(told.is_empty(), expected.is_empty(), "{text:?} gave {told:?}");
            assert!(told.starts_with(expected), "{text:?} gave {told:?}");
        }
    }

    #[test]
    fn a_long_file_is_told() {
        let long = format!("//! A.\n{}", "\n".repeat(LINES_MAX));
        assert_eq!(faults("crates/node/src/a.rs", &long).len(), 1);
        assert!(faults("dashboard/a.js", "\n").is_empty());
    }
}
