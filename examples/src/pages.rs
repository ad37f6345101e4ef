//! The pages to play the examples, embedded. Never served from here: the control plane of `dev` does.

/// Every page and asset: path, content type, bytes. Paths are exact and start with `/play` or `/assets`.
#[must_use]
pub fn pages() -> &'static [(&'static str, &'static str, &'static [u8])] {
    const HTML: &str = "text/html; charset=utf-8";
    const SCRIPT: &str = "text/javascript; charset=utf-8";
    &[
        ("/play", HTML, include_bytes!("../pages/index.html")),
        ("/play/arena", HTML, include_bytes!("../pages/arena.html")),
        ("/play/whiteboard", HTML, include_bytes!("../pages/whiteboard.html")),
        ("/play/chat", HTML, include_bytes!("../pages/chat.html")),
        ("/assets/style.css", "text/css; charset=utf-8", include_bytes!("../pages/style.css")),
        ("/assets/arena-game.js", SCRIPT, include_bytes!("../pages/arena-game.js")),
        ("/assets/arena-draw.js", SCRIPT, include_bytes!("../pages/arena-draw.js")),
        ("/assets/arena.js", SCRIPT, include_bytes!("../pages/arena.js")),
        ("/assets/whiteboard.js", SCRIPT, include_bytes!("../pages/whiteboard.js")),
        ("/assets/chat.js", SCRIPT, include_bytes!("../pages/chat.js")),
        ("/assets/socket.io.min.js", SCRIPT, include_bytes!("../pages/vendor/socket.io.min.js")),
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Write as _;

    use sha2::{Digest as _, Sha256};

    use super::*;

    #[test]
    fn every_asset_that_a_page_names_is_there_and_no_page_asks_another_site() {
        let paths: BTreeSet<&str> = pages().iter().map(|(path, _, _)| *path).collect();
        assert_eq!(paths.len(), pages().len(), "no path twice");
        for (path, _, bytes) in pages().iter().filter(|(path, _, _)| path.starts_with("/play")) {
            let text = std::str::from_utf8(bytes).unwrap();
            assert!(!text.contains("//cdn") && !text.contains("https://"), "{path} asks another site");
            for name in text.split("\"/assets/").skip(1) {
                let name = format!("/assets/{}", name.split('"').next().unwrap());
                assert!(paths.contains(name.as_str()), "{path} asks for {name}");
            }
        }
    }

    #[test]
    fn the_socket_io_bundle_is_the_published_one() {
        let (_, _, bundle) = pages().iter().find(|(path, _, _)| path.ends_with("socket.io.min.js")).unwrap();
        let hex = Sha256::digest(bundle).iter().fold(String::new(), |mut hex, byte| {
            write!(hex, "{byte:02x}").unwrap();
            hex
        });
        assert_eq!(hex, "d5d79a35039e860b32bdef4795528b05c2f788d4b2d9dacc913120e2878f7b3f");
        assert!(include_str!("../pages/vendor/README.md").contains(&hex));
    }
}
