//! What the ECS container agent answers when it is asked to protect the task, or to stop doing so.
//!
//! Never asks it. A refusal comes with status 200 too, so the body decides.

use serde::Deserialize;

/// The failure of a task that no service has started: nothing scales it in.
const NOT_OF_A_SERVICE: &str = "TASK_NOT_VALID";

/// It is as was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The protection is set so.
    Set,
    /// The task is no service's, and cannot be protected: no scale-in and no deployment would stop it.
    NotOfAService,
}

/// It is not as was asked. Worth trying again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// ECS refused.
    #[error("{reason}: {detail}{hint}")]
    Refused {
        /// Its word for why.
        reason: String,
        /// Its words for people.
        detail: String,
        /// What helps.
        hint: &'static str,
    },
    /// The answer says something else than was asked.
    #[error("the task protection endpoint says protected = {0}, which is not what it was told")]
    Otherwise(bool),
    /// Nobody knows what the answer means.
    #[error("the task protection endpoint answers {status}: {text:?}")]
    NotUnderstood {
        /// Its HTTP status.
        status: u16,
        /// How its body begins.
        text: String,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Answer {
    protection: Option<Protected>,
    failure: Option<Failure>,
    error: Option<Failed>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Protected {
    protection_enabled: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Failure {
    reason: String,
    detail: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Failed {
    code: String,
    message: Option<String>,
}

/// What became of asking for `protect`.
///
/// # Errors
/// See [`Refusal`].
pub fn outcome(status: u16, body: &[u8], protect: bool) -> Result<Outcome, Refusal> {
    let unclear = || {
        let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
        Refusal::NotUnderstood { status, text }
    };
    let answer: Answer = serde_json::from_slice(body).map_err(|_no_json| unclear())?;
    match answer {
        Answer { error: Some(Failed { code, message }), .. } => Err(refused(code, message)),
        Answer { failure: Some(failure), .. } if failure.reason == NOT_OF_A_SERVICE => {
            Ok(Outcome::NotOfAService)
        }
        Answer { failure: Some(Failure { reason, detail }), .. } => Err(refused(reason, detail)),
        Answer { protection: Some(told), .. } if (200..300).contains(&status) => {
            let is = told.protection_enabled;
            if is == protect { Ok(Outcome::Set) } else { Err(Refusal::Otherwise(is)) }
        }
        Answer { .. } => Err(unclear()),
    }
}

fn refused(reason: String, detail: Option<String>) -> Refusal {
    let hint = match reason.as_str() {
        "AccessDeniedException" => "; give the task's role ecs:UpdateTaskProtection",
        "DEPLOYMENT_BLOCKED" => {
            "; the service has more protected tasks than its desired count: raise it, or drain hosts that should go"
        }
        "RequestCanceled" | "RequestError" | "RequestTimeout" => {
            "; see that the ECS API can be reached from the task's instance, by a VPC endpoint for example"
        }
        _ => "",
    };
    Refusal::Refused { reason, detail: detail.unwrap_or_else(|| "no detail is told".to_owned()), hint }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:ecs:us-west-2:111122223333:task/default/1234567890abcdef0";

    #[test]
    fn what_ecs_answers_is_understood_whatever_its_status() {
        let protection = |enabled: bool| {
            format!(
                r#"{{"protection":{{"ExpirationDate":null,"ProtectionEnabled":{enabled},"TaskArn":"{ARN}"}}}}"#
            )
        };
        let failure = |reason: &str, detail: &str| {
            format!(r#"{{"failure":{{"Arn":"{ARN}","Detail":{detail},"Reason":"{reason}"}}}}"#)
        };
        let error = |code: &str, message: &str| {
            let error = format!(r#""error":{{"Arn":"{ARN}","Code":"{code}","Message":"{message}"}}"#);
            format!(r#"{{"requestID":"12345-abc-6789-0123-abc",{error}}}"#)
        };
        let cases = [
            (200, protection(true), true, Ok(Outcome::Set)),
            (200, protection(false), false, Ok(Outcome::Set)),
            (
                200,
                protection(false),
                true,
                Err("the task protection endpoint says protected = false, which is not what it was told"),
            ),
            (500, protection(true), true, Err("the task protection endpoint answers 500: \"{\\\"protection")),
            (200, failure("TASK_NOT_VALID", "null"), true, Ok(Outcome::NotOfAService)),
            (200, failure("MISSING", "null"), true, Err("MISSING: no detail is told")),
            (
                200,
                failure("DEPLOYMENT_BLOCKED", "\"too many\""),
                true,
                Err(
                    "DEPLOYMENT_BLOCKED: too many; the service has more protected tasks than its desired count",
                ),
            ),
            (
                400,
                error("ThrottlingException", "Rate exceeded"),
                true,
                Err("ThrottlingException: Rate exceeded"),
            ),
            (
                400,
                error("AccessDeniedException", "not authorized"),
                false,
                Err("AccessDeniedException: not authorized; give the task's role ecs:UpdateTaskProtection"),
            ),
            (
                504,
                error("RequestCanceled", "Timed out calling Amazon ECS Task Protection API"),
                true,
                Err("RequestCanceled: Timed out calling Amazon ECS Task Protection API; see that"),
            ),
            (
                404,
                "404 page not found\n".to_owned(),
                true,
                Err("the task protection endpoint answers 404: \"404 page"),
            ),
            (200, "{}".to_owned(), true, Err("the task protection endpoint answers 200: \"{}\"")),
            (200, "[]".to_owned(), true, Err("the task protection endpoint answers 200: \"[]\"")),
        ];
        for (status, body, protect, expected) in cases {
            let found = outcome(status, body.as_bytes(), protect);
            match (&found, expected) {
                (Ok(found), Ok(expected)) => assert_eq!(*found, expected, "{body}"),
                (Err(refusal), Err(expected)) => {
                    assert!(refusal.to_string().starts_with(expected), "{body}: {refusal}");
                }
                (Ok(_) | Err(_), _) => panic!("{status} {body}: {found:?}"),
            }
        }
    }
}
