//! From news to the text of one message, as Slack and its likes read it.
//!
//! Never trusts a text: what servers print may hold what a chat takes for a mention or a link.

use greenroom_wire::record::{NewsEvent, NewsItem};

/// Lines of one message; what is beyond is counted.
const LINES_MAX: usize = 20;
/// Characters of a line.
const LINE_CHARS_MAX: usize = 300;
/// Things that are named of those that have something in common.
const SUBJECTS_MAX: usize = 3;

/// Items that are told in one line.
struct Line<'a> {
    first: &'a NewsItem,
    subjects: Vec<&'a str>,
}

/// One message. What has something in common is told once, with its number.
pub(super) fn message(items: &[&NewsItem], dropped: bool) -> String {
    let mut lines: Vec<Line<'_>> = Vec::new();
    for item in items {
        let alike = |line: &&mut Line<'_>| !item.common.is_empty() && line.first.common == item.common;
        match lines.iter_mut().find(alike) {
            Some(line) => line.subjects.push(&item.subject),
            None => lines.push(Line { first: item, subjects: vec![&item.subject] }),
        }
    }
    let mut told: Vec<String> = lines.iter().take(LINES_MAX).map(text).collect();
    if lines.len() > LINES_MAX {
        told.push(format!("and {} more; GET /v1/audit tells of all changes", lines.len() - LINES_MAX));
    }
    if dropped {
        told.insert(0, "what happened before this is left out: there was too much of it".to_owned());
    }
    told.join("\n")
}

fn text(line: &Line<'_>) -> String {
    let (time, count) = (clock(line.first.at_ms), line.subjects.len());
    if line.first.event == NewsEvent::Digest {
        let lines =
            line.first.text.lines().map(|line| plain(line, LINE_CHARS_MAX)).collect::<Vec<_>>().join("\n");
        return format!("{time} {lines}");
    }
    if count == 1 {
        return format!("{time} {}", plain(&line.first.text, LINE_CHARS_MAX));
    }
    let named = line.subjects[..count.min(SUBJECTS_MAX)].join(", ");
    let more = if count > SUBJECTS_MAX { ", …" } else { "" };
    plain(&format!("{time} {count} {} ({named}{more})", line.first.common), LINE_CHARS_MAX)
}

/// Without what a chat would read as more than text, and no longer than `chars_max`.
fn plain(text: &str, chars_max: usize) -> String {
    let mut out = String::new();
    for (at, c) in text.chars().enumerate() {
        if at >= chars_max {
            out.push('…');
            break;
        }
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// The time of day, in UTC.
pub(super) fn clock(at_ms: u64) -> String {
    let seconds = at_ms / 1000 % 86_400;
    format!("{:02}:{:02}:{:02}Z", seconds / 3600, seconds / 60 % 60, seconds % 60)
}
