//! Answers without a leader, at a replica that does not reach whoever leads. From the store: rooms by keys that live, answers
//! that were given before, and the public keys. What can be seen is told by `seen`.
//!
//! Never writes, and never waits for longer than a read may take. What it may tell is decided in `world::standing`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::http::{Method, header};
use axum::response::{IntoResponse as _, Response};
use greenroom_core::{FleetName, RoomId};
use greenroom_store::Store;
use greenroom_store::records::{self, LoadError};
use greenroom_wire::api::AllocateRequest;
use greenroom_wire::record::{AnswerRecord, KeyRecord, RoomRecord};
use greenroom_wire::token::{PublicKeys, Signer};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::debug;

use super::calls::take_key;
use super::forward::Asked;
use super::seen::{Look, Onlooker};
use crate::config::ControlConfig;
use crate::office::Office;
use crate::run::clock;
use crate::start::youngest_key;
use crate::world::{Grant, Place, Standing};

/// Calls that read at once; more take their turn. The lease is read over the same line.
const READS_MAX: usize = 64;
/// How long a call may look for its answer in the store.
const READ_TIMEOUT: Duration = Duration::from_secs(1);

/// Reads for all calls of this replica.
pub(super) struct Reader {
    store: Arc<dyn Store>,
    config: Arc<ControlConfig>,
    reads: Semaphore,
    onlooker: Onlooker,
}

/// One call's look for an answer.
pub(super) struct Search<'a> {
    reader: &'a Reader,
    asked: &'a Asked,
    /// `None`: not yet thought of. `Some(None)`: only the leader can answer it.
    question: Option<Option<Question>>,
}

/// What may be known without the leader.
#[derive(Debug)]
enum Question {
    Room(Box<Standing>),
    Keys,
    Seen(Look),
}

/// Why the store gave no answer.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error("the signing key cannot be used")]
    Key,
}

impl Search<'_> {
    /// Whether its answer is what can be seen: less than a leader knows that lets the call wait.
    pub(super) fn is_of_sight(&mut self) -> bool {
        matches!(self.question(), Some(Question::Seen(_)))
    }

    fn question(&mut self) -> Option<&Question> {
        let (reader, asked) = (self.reader, self.asked);
        self.question.get_or_insert_with(|| reader.question(asked)).as_ref()
    }

    /// The answer, if there is one. Once the store has said no it is not asked again: without a leader nothing changes there.
    /// What is seen changes.
    pub(super) async fn answer(&mut self) -> Option<Response> {
        let reader = self.reader;
        let question = self.question()?;
        let is_seen = matches!(question, Question::Seen(_));
        match timeout(READ_TIMEOUT, reader.read(question)).await {
            Ok(Ok(None)) if is_seen => None,
            Ok(Ok(None)) => {
                self.question = Some(None);
                None
            }
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                debug!(%error, "an answer could not be read from the store");
                None
            }
            Err(_) => None,
        }
    }
}

impl Reader {
    pub(super) fn new(office: Arc<Office>, store: Arc<dyn Store>, config: Arc<ControlConfig>) -> Self {
        let onlooker = Onlooker::new(office, Arc::clone(&store), Arc::clone(&config));
        Self { store, config, reads: Semaphore::new(READS_MAX), onlooker }
    }

    pub(super) const fn search<'a>(&'a self, asked: &'a Asked) -> Search<'a> {
        Search { reader: self, asked, question: None }
    }

    /// What of a call may be known here; `None`: only the leader can answer it.
    fn question(&self, asked: &Asked) -> Option<Question> {
        if let Some(look) = self.onlooker.look(asked) {
            return Some(Question::Seen(look));
        }
        let path = asked.path.split('?').next().unwrap_or_default();
        if asked.method == Method::GET {
            return (path == "/v1/keys").then_some(Question::Keys);
        }
        let fleet = path.strip_prefix("/v1/fleets/")?.strip_suffix("/rooms")?;
        if asked.method != Method::POST || !asked.headers.contains_key(header::CONTENT_TYPE) {
            return None;
        }
        let fleet: FleetName = fleet.parse().ok()?;
        let mut body: AllocateRequest = serde_json::from_slice(&asked.body).ok()?;
        take_key(&asked.headers, &mut body).ok()?;
        let kind = self.config.fleets.iter().find(|known| known.name == fleet)?.kind;
        let standing = Standing::of(&fleet, kind, &self.config.timings, &self.config.bounds, body)?;
        Some(Question::Room(Box::new(standing)))
    }

    async fn read(&self, question: &Question) -> Result<Option<Response>, Unread> {
        let _turn = match question {
            Question::Seen(_) => None,
            Question::Keys | Question::Room(_) => Some(self.reads.acquire().await),
        };
        match question {
            Question::Keys => self.keys().await,
            Question::Room(standing) => self.room(standing).await,
            Question::Seen(look) => Ok(self.onlooker.answer(look).await),
        }
    }

    async fn keys(&self) -> Result<Option<Response>, Unread> {
        let signer = self.signer().await?;
        Ok(signer.map(|signer| Json(PublicKeys { keys: vec![signer.public()] }).into_response()))
    }

    async fn room(&self, standing: &Standing) -> Result<Option<Response>, Unread> {
        let grant = match standing.place() {
            None => None,
            Some(Place::Answer(key)) => self.answered(standing, &key).await?,
            Some(Place::Key(key)) => self.seated(standing, &key).await?,
        };
        let Some(grant) = grant else { return Ok(None) };
        let Some(signer) = self.signer().await? else { return Ok(None) };
        Ok(Some(Json(grant.signed(|claims| signer.sign(claims))).into_response()))
    }

    async fn answered(&self, standing: &Standing, key: &str) -> Result<Option<Grant>, LoadError> {
        let Some(record) = records::get::<AnswerRecord>(&*self.store, key).await? else { return Ok(None) };
        let room = self.stored(&record.room.0).await?;
        Ok(standing.repeat(record, room))
    }

    /// The moment that counts is that of the second read: a room that is stored then lives as far as anybody was told.
    async fn seated(&self, standing: &Standing, key: &str) -> Result<Option<Grant>, LoadError> {
        let Some(record) = records::get::<KeyRecord>(&*self.store, key).await? else { return Ok(None) };
        let room = self.stored(&record.room.0).await?;
        Ok(room.and_then(|room| standing.seated(room, clock())))
    }

    async fn stored(&self, room: &RoomId) -> Result<Option<RoomRecord>, LoadError> {
        records::get::<RoomRecord>(&*self.store, room.as_str()).await
    }

    /// The youngest key, as the leader takes it.
    async fn signer(&self) -> Result<Option<Signer>, Unread> {
        let youngest = youngest_key(&*self.store).await?;
        youngest.map(|record| Signer::new(&record).map_err(|_| Unread::Key)).transpose()
    }
}
