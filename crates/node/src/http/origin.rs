//! Which web pages may talk to this node, and the headers that tell their browser.
//! Never judges what is not a browser: it sends no origin.

use http::{HeaderMap, HeaderValue, header};

use crate::config::{Cors, Origins};

/// An origin that may connect, and what its browser is told.
pub(super) enum Allowed {
    /// No origin, or the host's own: nothing to tell.
    Silent,
    /// Another origin from the list.
    Listed(HeaderValue),
    /// Everybody.
    Any,
}

/// Judges a request by its origin. `None`: refuse it.
pub(super) fn judge(headers: &HeaderMap, origins: &Origins) -> Option<Allowed> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Some(Allowed::Silent) };
    match origins {
        Origins::Any => return Some(Allowed::Any),
        Origins::Same | Origins::Listed(_) => {}
    }
    let text = origin.to_str().ok()?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_own = text.split_once("://").is_some_and(|(_, own)| Some(own) == host);
    let is_listed = match origins {
        Origins::Listed(listed) => listed.iter().any(|known| known.eq_ignore_ascii_case(text)),
        Origins::Same | Origins::Any => false,
    };
    match (is_listed, is_own) {
        (true, _) => Some(Allowed::Listed(origin.clone())),
        (false, true) => Some(Allowed::Silent),
        (false, false) => None,
    }
}

impl Allowed {
    /// Writes the headers of CORS.
    pub(super) fn mark(&self, headers: &mut HeaderMap, cors: &Cors, is_preflight: bool) {
        let origin = match self {
            Self::Silent => return,
            Self::Any => HeaderValue::from_static("*"),
            Self::Listed(origin) => {
                headers.insert(header::VARY, HeaderValue::from_static("Origin"));
                if cors.has_credentials {
                    let credentials = HeaderValue::from_static("true");
                    headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, credentials);
                }
                origin.clone()
            }
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if let Some(exposed) = &cors.exposed_headers {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed.clone());
        }
        if is_preflight {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, cors.methods.clone());
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, cors.headers.clone());
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(cors.max_age.as_secs()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_own_and_listed_origins_may_connect() {
        let listed = Origins::Listed(vec!["https://play.example".to_owned()]);
        let cases = [
            (None, &Origins::Same, Some("")),
            (Some("http://here:1"), &Origins::Same, Some("")),
            (Some("http://there"), &Origins::Same, None),
            (Some("null"), &Origins::Same, None),
            (Some("https://play.example"), &listed, Some("https://play.example")),
            (Some("https://Play.example"), &listed, Some("https://Play.example")),
            (Some("https://play.example.evil"), &listed, None),
            (Some("http://play.example"), &listed, None),
            (Some("http://here:1"), &listed, Some("")),
            (Some("http://there"), &Origins::Any, Some("*")),
        ];
        for (origin, origins, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("here:1"));
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            let told = judge(&headers, origins).map(|allowed| {
                let mut answer = HeaderMap::new();
                allowed.mark(&mut answer, &Cors::default(), false);
                let origin = answer.get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
                origin.map_or_else(String::new, |origin| origin.to_str().unwrap().to_owned())
            });
            assert_eq!(told.as_deref(), expected, "{origin:?} {origins:?}");
        }
    }
}
