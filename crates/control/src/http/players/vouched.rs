//! What a player token says besides who it is: a rating, and attributes that are not the player's to choose.
//!
//! Never takes either from anywhere else.

use std::collections::BTreeMap;

use greenroom_wire::error::Code;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::config::{SaidAttributes, Says};
use crate::http::error::ApiError;

/// The claims of a checked token, without its `sub`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Vouched(Map<String, Value>);

impl Vouched {
    /// The rating under this claim. A token without it has none; one with something else there is refused, so that a slip of
    /// the back end is seen.
    pub(super) fn rating(&self, claim: Option<&str>) -> Result<Option<i32>, ApiError> {
        let Some((claim, value)) = claim.and_then(|claim| Some((claim, self.0.get(claim)?))) else {
            return Ok(None);
        };
        let rating = value.as_i64().and_then(|rating| i32::try_from(rating).ok());
        let message = || format!("the claim {claim} of the player token is no whole number of 32 bits");
        rating.map(Some).ok_or_else(|| ApiError::new(Code::Unauthorized, message()))
    }
}

impl SaidAttributes {
    /// The attributes of a player's ticket, each from where the configuration says. One that players may not say is refused,
    /// and so is one that nobody knows.
    pub(super) fn of(
        &self,
        body: BTreeMap<String, String>,
        vouched: &Vouched,
    ) -> Result<BTreeMap<String, String>, ApiError> {
        let mut attributes = BTreeMap::new();
        for (name, value) in body {
            match self.0.get(&name) {
                Some(Says::Player) => attributes.insert(name, value),
                Some(Says::Token) => {
                    let message =
                        format!("the attribute {name} is said by the player token, not by the player");
                    return Err(ApiError::new(Code::Forbidden, message));
                }
                None => {
                    let message = format!("players have no attribute {name:?}");
                    return Err(ApiError::new(Code::Forbidden, message));
                }
            };
        }
        for (name, _) in self.0.iter().filter(|(_, says)| **says == Says::Token) {
            match vouched.0.get(name) {
                Some(Value::String(value)) => {
                    attributes.insert(name.clone(), value.clone());
                }
                None => {}
                Some(_) => {
                    let message = format!("the claim {name} of the player token is no text");
                    return Err(ApiError::new(Code::Unauthorized, message));
                }
            }
        }
        Ok(attributes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> Vouched {
        serde_json::from_str(claims).unwrap()
    }

    #[test]
    fn a_rating_is_in_the_token_or_nowhere() {
        let told = |claims: &str, claim| token(claims).rating(claim).map_err(|error| error.code);
        assert_eq!(told(r#"{"mmr": 1500}"#, Some("mmr")), Ok(Some(1_500)));
        assert_eq!(told(r#"{"mmr": -7}"#, Some("mmr")), Ok(Some(-7)));
        assert_eq!(told(r#"{"mmr": 1500}"#, None), Ok(None), "nobody was told to look there");
        assert_eq!(told(r#"{"rating": 1500}"#, Some("mmr")), Ok(None));
        for slip in [r#"{"mmr": "1500"}"#, r#"{"mmr": 1.5}"#, r#"{"mmr": 3000000000}"#, r#"{"mmr": null}"#] {
            assert_eq!(told(slip, Some("mmr")), Err(Code::Unauthorized), "{slip}");
        }
    }

    #[test]
    fn an_attribute_comes_from_where_it_may() {
        let said =
            SaidAttributes([("mode".to_owned(), Says::Player), ("tier".to_owned(), Says::Token)].into());
        let told = |body: &[(&str, &str)], claims: &str| {
            let body = body.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let told = said.of(body, &token(claims)).map_err(|error| error.code)?;
            Ok(told.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(told(&[("mode", "duel")], r#"{"tier": "gold"}"#), Ok("mode=duel tier=gold".to_owned()));
        assert_eq!(told(&[], "{}"), Ok(String::new()));
        assert_eq!(told(&[], r#"{"mode": "duel"}"#), Ok(String::new()), "the player says it");
        assert_eq!(told(&[("tier", "gold")], "{}"), Err(Code::Forbidden));
        assert_eq!(told(&[("tier", "gold")], r#"{"tier": "gold"}"#), Err(Code::Forbidden));
        assert_eq!(told(&[("rating", "9000")], "{}"), Err(Code::Forbidden));
        assert_eq!(told(&[], r#"{"tier": 3}"#), Err(Code::Unauthorized));
    }
}
