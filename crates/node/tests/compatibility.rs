//! The page for those who come from Node.js names a test for whatever it promises, and each of them is there.

#![expect(clippy::unwrap_used, reason = "a helper of tests fails the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// All tests of this folder, as `file::test`.
fn tests() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut tests = BTreeSet::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "rs") {
            let file = path.file_stem().unwrap().to_str().unwrap().to_owned();
            let text = fs::read_to_string(&path).unwrap();
            let mut lines = text.lines().map(str::trim);
            while let Some(line) = lines.next() {
                // Other attributes may stand between.
                if line == "#[test]"
                    && let Some(name) = lines.find_map(|next| next.strip_prefix("fn "))
                {
                    tests.insert(format!("{file}::{}", name.split('(').next().unwrap()));
                }
            }
        }
    }
    tests
}

#[test]
fn each_row_of_the_page_names_tests_that_there_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let (page, tests) = (fs::read_to_string(root.join("docs/compatibility.md")).unwrap(), tests());
    let mut rows = 0;
    for line in page.lines().filter(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, what, state, .., named, _] = cells[..] else { panic!("{line}") };
        if state != "yes" && state != "other" {
            assert!(["here", "later"].contains(&state), "{line}");
            continue;
        }
        rows += 1;
        let named: Vec<&str> = named.split(", ").map(|name| name.trim_matches('`')).collect();
        for name in named {
            let is_there = if name.starts_with("tests/e2e/") {
                name.ends_with(".test.mjs") && root.join(name).is_file()
            } else {
                tests.contains(name)
            };
            assert!(is_there, "{what}: there is no test {name:?}");
        }
    }
    assert!(rows > 50, "{rows} rows were read");
}
