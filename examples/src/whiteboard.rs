//! The whiteboard: plain Socket.IO handlers over any number of nodes. Each socket's colour is kept by the server
//! and stamped on what it draws. Never a room: whoever draws reaches everybody else of the fleet.

use std::process::ExitCode;

use greenroom_node::{Handlers, Node};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What a socket draws with until it chooses.
const INK: &str = "#1d3557";

/// A stroke, in fractions of the sheet.
#[derive(Debug, Serialize, Deserialize)]
struct Stroke {
    x0: f32,
    y0: f32,
    x1: f32,
    y1: f32,
}

/// A stroke as the others see it.
#[derive(Serialize)]
struct Drawing<'a> {
    #[serde(flatten)]
    stroke: Stroke,
    color: &'a str,
}

impl Stroke {
    fn is_on_the_sheet(&self) -> bool {
        [self.x0, self.y0, self.x1, self.y1].iter().all(|place| (0.0..=1.0).contains(place))
    }
}

/// A colour name or `#` and hexadecimal digits: nothing that could be more than a colour in a page.
fn is_color(text: &str) -> bool {
    let digits = text.strip_prefix('#');
    match digits {
        Some(digits) => matches!(digits.len(), 3 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit()),
        None => (3..=24).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase()),
    }
}

fn serve(handlers: &mut Handlers) {
    handlers
        .on_connect(|socket| {
            // Who comes back to its session has its colour still.
            if !socket.recovered() {
                socket.set_data(json!({ "color": INK }));
                socket.emit("init", &socket.data());
            }
        })
        .on("color", |socket, mut event| match event.arg::<String>(0) {
            Ok(color) if is_color(&color) => socket.set_data(json!({ "color": color })),
            Ok(_) | Err(_) => event.reply(&json!({ "error": "a colour is a name or # and 3 or 6 digits" })),
        })
        .on("drawing", |socket, mut event| match event.arg::<Stroke>(0) {
            Ok(stroke) if stroke.is_on_the_sheet() => {
                let data = socket.data();
                let color = data["color"].as_str().unwrap_or(INK);
                socket.broadcast().emit("drawing", &Drawing { stroke, color });
            }
            Ok(_) | Err(_) => {
                event.reply(&json!({ "error": "a stroke is x0, y0, x1, y1, each from 0 to 1" }));
            }
        });
}

/// Runs a whiteboard node as the environment tells, until it is told to stop.
#[must_use]
pub fn main() -> ExitCode {
    let mut node = Node::from_env();
    serve(node.namespace("/"));
    node.run()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_colours_pass_as_colours() {
        for (text, passes) in [
            ("#1d3557", true),
            ("#fff", true),
            ("blue", true),
            ("rebeccapurple", true),
            ("#ffff", false),
            ("", false),
            ("url(//x)", false),
            ("#zzzzzz", false),
            ("averyveryveryverylongword", false),
        ] {
            assert_eq!(is_color(text), passes, "{text}");
        }
    }

    #[test]
    fn a_stroke_off_the_sheet_is_told_apart() {
        for (text, on) in [
            (r#"{"x0":0,"y0":0.5,"x1":1,"y1":1}"#, true),
            (r#"{"x0":-0.1,"y0":0,"x1":0,"y1":0}"#, false),
            (r#"{"x0":0,"y0":0,"x1":1e9,"y1":0}"#, false),
        ] {
            assert_eq!(serde_json::from_str::<Stroke>(text).unwrap().is_on_the_sheet(), on, "{text}");
        }
        assert!(serde_json::from_str::<Stroke>("{}").is_err());
    }

    #[test]
    fn others_see_the_stroke_with_the_servers_colour() {
        let stroke = Stroke { x0: 0.0, y0: 0.25, x1: 0.5, y1: 1.0 };
        let text = serde_json::to_string(&Drawing { stroke, color: "blue" }).unwrap();
        assert_eq!(text, r#"{"x0":0.0,"y0":0.25,"x1":0.5,"y1":1.0,"color":"blue"}"#);
    }
}
