//! The pages that the control plane shows: the dashboard, and the examples where they are wanted. All embedded.
//!
//! Never asks another site for anything.

/// One page: exact path, content type, bytes.
pub(crate) type Page = (&'static str, &'static str, &'static [u8]);

const SCRIPT: &str = "text/javascript; charset=utf-8";
const JSON: &str = "application/json";

/// What the dashboard links to when the examples are served.
const EXAMPLES: &str = r#"[
  {"path": "/play/arena", "title": "Arena", "words": "four players, one room: open four tabs"},
  {"path": "/play/whiteboard", "title": "Whiteboard", "words": "one drawing over two servers: open two tabs"},
  {"path": "/play/chat", "title": "Guild chat", "words": "the same key, the same room"}
]"#;

const DASHBOARD: [Page; 6] = [
    ("/", "text/html; charset=utf-8", include_bytes!("../../../dashboard/index.html")),
    ("/dashboard/style.css", "text/css; charset=utf-8", include_bytes!("../../../dashboard/style.css")),
    ("/dashboard/app.js", SCRIPT, include_bytes!("../../../dashboard/app.js")),
    ("/dashboard/dom.js", SCRIPT, include_bytes!("../../../dashboard/dom.js")),
    ("/dashboard/views.js", SCRIPT, include_bytes!("../../../dashboard/views.js")),
    ("/dashboard/icon.svg", "image/svg+xml", include_bytes!("../../../dashboard/icon.svg")),
];

/// The dashboard alone, or with the examples.
pub(crate) fn all(with_examples: bool) -> Vec<Page> {
    let mut pages = DASHBOARD.to_vec();
    let links = if with_examples { EXAMPLES } else { "[]" };
    pages.push(("/dashboard/pages.json", JSON, links.as_bytes()));
    if with_examples {
        pages.extend_from_slice(greenroom_examples::pages());
    }
    pages
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_link_and_import_leads_to_a_page() {
        let pages = all(true);
        let paths: BTreeSet<&str> = pages.iter().map(|(path, _, _)| *path).collect();
        assert_eq!(paths.len(), pages.len(), "no path twice");
        let links: serde_json::Value = serde_json::from_str(EXAMPLES).expect("valid JSON");
        for link in links.as_array().expect("a list") {
            let path = link["path"].as_str().expect("a path");
            assert!(paths.contains(path), "{path} is not served");
        }
        for (name, _, bytes) in DASHBOARD {
            let text = std::str::from_utf8(bytes).expect("text");
            for part in text.split("/dashboard/").skip(1) {
                let end = part.find(['"', '\'', '`']).unwrap_or(part.len());
                let path = format!("/dashboard/{}", &part[..end]);
                assert!(paths.contains(path.as_str()), "{name} asks for {path}");
            }
            assert!(!text.contains("innerHTML"), "{name} writes markup from data");
            assert!(
                name == "/dashboard/icon.svg"
                    || !text.contains("http://") && !text.contains("https://")
                    || name == "/dashboard/views.js",
                "{name} asks another site"
            );
        }
    }
}
