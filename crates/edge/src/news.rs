//! Asks the control plane who is there: now and then, and at once when somebody waits for it.
//!
//! Never takes its silence for an answer: what was told last stays.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use greenroom_client::{ClientError, ControlClient};
use greenroom_core::FleetName;
use greenroom_wire::api::GameserverStatus;
use tokio::time::timeout;
use tracing::{info, warn};

use crate::Edge;
use crate::members::Change;

/// Time between two questions when somebody waits.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// Asks until the edge is over. Of several control planes one that answered is asked again, else the next one.
pub(crate) async fn watch(
    edge: Arc<Edge>,
    controls: Vec<ControlClient>,
    fleets: Vec<FleetName>,
    every: Duration,
) {
    let mut controls = controls.iter().cycle().peekable();
    let mut is_away = false;
    let mut is_first = true;
    while let Some(control) = controls.peek() {
        edge.asked.fetch_add(1, Ordering::Relaxed);
        let asked = tokio::select! {
            () = edge.over.cancelled() => return,
            asked = ask(control, &fleets) => asked,
        };
        match asked {
            Ok(list) => {
                let changes = edge.members().observe(&list, Instant::now());
                tell(&changes, is_first);
                edge.answered.send_replace(edge.asked.load(Ordering::Relaxed));
                if std::mem::take(&mut is_away) {
                    info!(control = control.base(), "the control plane answers again");
                }
                is_first = false;
            }
            Err(error) => {
                if !std::mem::replace(&mut is_away, true) {
                    let error = greenroom_wire::error::chain(&error);
                    warn!(
                        control = control.base(),
                        error, "the control plane does not tell who is there; what is known stays"
                    );
                }
                controls.next();
            }
        }
        tokio::select! {
            () = edge.over.cancelled() => return,
            () = pause(&edge, every) => {}
        }
    }
}

async fn pause(edge: &Edge, every: Duration) {
    let least = PAUSE_MIN.min(every);
    tokio::time::sleep(least).await;
    // Either is a reason to go on.
    let _wanted = timeout(every - least, edge.wanted.notified()).await;
}

async fn ask(control: &ControlClient, fleets: &[FleetName]) -> Result<Vec<GameserverStatus>, ClientError> {
    let mut all = Vec::new();
    for fleet in fleets {
        all.extend(control.gameservers(Some(fleet)).await?.gameservers);
    }
    Ok(all)
}

fn tell(changes: &[Change], is_first: bool) {
    if is_first {
        info!(servers = changes.len(), "servers are known; sessions are taken");
        return;
    }
    for change in changes {
        match change {
            Change::Joined(server) => info!(%server, "a server joined"),
            Change::Left(server) => info!(%server, "a server left; what passes to it goes on"),
        }
    }
}
