//! An export of a control plane that runs, and what another one begins with.

#![expect(clippy::unwrap_used, reason = "helpers of tests: a failure is the test's")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use greenroom_client::{CallTimes, ClientError, ControlClient};
use greenroom_control::{AccessToken, ControlConfig, Role, TokenSource};
use greenroom_core::Timestamp;
use greenroom_store::export::{Existing, Export};
use greenroom_store::{FileStore, MemoryStore};
use greenroom_wire::api::AuditAction;
use greenroom_wire::error::Code;
use greenroom_wire::export::SigningKeys;
use greenroom_wire::secret::Secret;

use support::*;

const TOKEN: &str = "admin-0123456789abcdef";

fn guarded() -> ControlConfig {
    let mut config = ControlConfig::new(fleets());
    let source = TokenSource::Value(Secret::new(TOKEN));
    config.tokens = vec![AccessToken { name: "ops".to_owned(), role: Role::Admin, source }];
    config
}

fn admin(control: &Control) -> ControlClient {
    let secret = Secret::new(TOKEN);
    ControlClient::with_token(control.client.base(), Some(&secret), CallTimes::default()).unwrap()
}

#[tokio::test]
async fn what_a_running_control_plane_has_promised_is_promised_by_another_one_on_another_store() {
    let control = Control::start(guarded(), Arc::new(MemoryStore::default())).await;
    let agent = FakeAgent::connect_as(control.address, "b1", BTreeMap::new(), TOKEN).await;
    let client = admin(&control);
    let arena = "arena".parse().unwrap();
    let mut once = request(Some("guild"), &["a", "b"]);
    once.idempotency_key = Some(text("once"));
    let given = until("it allocates", async || client.allocate(&arena, &once).await.ok()).await;
    let (keys, term) = (client.keys().await.unwrap(), client.overview().await.unwrap().term);
    let file = client.export(SigningKeys::Included).await.unwrap();
    let export = Export::read(&file).unwrap();
    assert_eq!((export.header().term, export.header().signing_keys), (term, SigningKeys::Included));
    let running = agent.edit(|_| ()).await;
    drop((control, agent));

    let folder = tempfile::tempdir().unwrap();
    let store = Arc::new(FileStore::open(folder.path()).unwrap());
    export.import(&*store, Existing::Refuse, Timestamp::from_unix_ms(1), Duration::ZERO).await.unwrap();
    let control = Control::start(guarded(), store).await;
    let client = admin(&control);
    let again = until("it answers", async || client.allocate(&arena, &once).await.ok()).await;
    assert_eq!(again, given, "the same room and the same tokens, before any agent is here");
    assert_eq!(client.keys().await.unwrap(), keys);
    let _agent = FakeAgent::connect_as(control.address, "b1", running, TOKEN).await;
    until("its agent obeys it", async || {
        let hosts = client.hosts().await.unwrap().hosts;
        hosts.iter().any(|host| host.connected && host.servers == 5).then_some(())
    })
    .await;
    assert!(client.overview().await.unwrap().term > term);
    let entries = client.audit(None, 100).await.unwrap().entries;
    let told = |action| entries.iter().filter(|entry| entry.action == action).collect::<Vec<_>>();
    let exports = told(AuditAction::StateExported);
    assert_eq!((exports.len(), exports[0].who.as_str()), (1, "token ops"));
    assert_eq!(exports[0].reason, "with the signing keys");
    let imports = told(AuditAction::StateImported);
    assert_eq!((imports.len(), imports[0].who.as_str()), (1, "import"));
    assert_eq!(told(AuditAction::ServerStarted).len(), 5, "nothing was started anew");
    assert_eq!(told(AuditAction::ServerStopped).len(), 0);
}

#[tokio::test]
async fn without_a_token_the_keys_are_not_told_and_the_rest_is() {
    let control = Control::start(ControlConfig::new(fleets()), Arc::new(MemoryStore::default())).await;
    let refused = control.client.export(SigningKeys::Included).await.unwrap_err();
    assert!(matches!(refused, ClientError::Refused { code: Code::Forbidden, .. }), "{refused}");
    let file = control.client.export(SigningKeys::LeftOut).await.unwrap();
    assert_eq!(Export::read(&file).unwrap().header().signing_keys, SigningKeys::LeftOut);
    assert!(!String::from_utf8(file).unwrap().contains("signing_key\",\"key"));
}
