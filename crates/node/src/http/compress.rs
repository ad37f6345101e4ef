//! The compression of polling answers, for clients that ask for it.
//! Never of what is short: that would only grow.

use std::io::Write as _;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};
use http::{HeaderMap, HeaderValue, header};

use super::Response;
use crate::line::Body;

/// An encoding of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    Gzip,
    Deflate,
}

impl Encoding {
    /// The better one of those that a client takes.
    fn wanted(headers: &HeaderMap) -> Option<Self> {
        let takes = |name: &str| {
            let lists = headers.get_all(header::ACCEPT_ENCODING).iter();
            lists.filter_map(|list| list.to_str().ok()).flat_map(|list| list.split(',')).any(|item| {
                let (coding, weight) = item.split_once(';').unwrap_or((item, ""));
                let weight = weight.trim().strip_prefix("q=").map_or(Ok(1.0), str::parse::<f32>);
                coding.trim().eq_ignore_ascii_case(name) && weight.is_ok_and(|weight| weight > 0.0)
            })
        };
        [Self::Gzip, Self::Deflate].into_iter().find(|encoding| takes(encoding.name()))
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    fn encode(self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let out = Vec::with_capacity(bytes.len() / 2);
        // The loop waits for it: the fastest level, which gets most of what there is to get.
        let level = Compression::fast();
        match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(out, level);
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Self::Deflate => {
                let mut encoder = ZlibEncoder::new(out, level);
                encoder.write_all(bytes)?;
                encoder.finish()
            }
        }
    }
}

/// Puts a polling body into an answer, compressed if it is worth it and the client takes it.
pub(super) fn fill(answer: &mut Response, body: Body, headers: &HeaderMap, bytes_min: Option<usize>) {
    let is_worth_it = body.is_compressible && bytes_min.is_some_and(|min| body.bytes.len() >= min);
    let encoding = if is_worth_it { Encoding::wanted(headers) } else { None };
    let encoded = encoding.and_then(|encoding| Some((encoding, encoding.encode(&body.bytes).ok()?)));
    match encoded {
        Some((encoding, encoded)) => {
            let headers = answer.headers_mut();
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding.name()));
            *answer.body_mut() = Bytes::from(encoded).into();
        }
        None => *answer.body_mut() = body.bytes.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_gets_what_it_asks_for() {
        let cases = [
            ("", None),
            ("gzip, deflate, br", Some(Encoding::Gzip)),
            ("deflate", Some(Encoding::Deflate)),
            ("GZIP;q=0.5", Some(Encoding::Gzip)),
            ("gzip;q=0, deflate", Some(Encoding::Deflate)),
            ("gzip;q=0", None),
            ("gzip;q=x", None),
            ("br, identity", None),
        ];
        for (asked, expected) in cases {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static(asked));
            assert_eq!(Encoding::wanted(&headers), expected, "{asked}");
        }
    }
}
