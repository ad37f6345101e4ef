//! Waits for the first readiness of the control plane and tells what it waits for.
//!
//! Never ends the wait itself: what is not ready stays visible, and Ctrl-C works.

use std::time::Duration;

use greenroom_client::ControlClient;
use tokio::time::Instant;

use crate::ask;
use crate::failure::Failure;
use crate::print;

const PERIOD: Duration = Duration::from_millis(150);
/// After this without a change a hint to the logs is given, once.
const PATIENCE: Duration = Duration::from_secs(20);

/// The wait for the first readiness.
#[derive(Debug)]
pub(super) struct Readiness {
    control: ControlClient,
    began_at: Instant,
    /// `None` once it was ready.
    next_at: Option<Instant>,
    told: Vec<String>,
    /// When to hint at the logs; moves with every news.
    hint_at: Option<Instant>,
}

impl Readiness {
    pub(super) fn new(url: &str) -> Result<Self, Failure> {
        let now = Instant::now();
        Ok(Self {
            control: ask::client(url)?,
            began_at: now,
            next_at: Some(now + PERIOD),
            told: Vec::new(),
            hint_at: Some(now + PATIENCE),
        })
    }

    /// When to look next; never again once it was ready.
    pub(super) async fn next_look(&self) {
        match self.next_at {
            Some(at) => tokio::time::sleep_until(at).await,
            None => std::future::pending().await,
        }
    }

    /// Looks, tells what is new, and gives whether it is ready: `true` exactly once.
    pub(super) async fn look(&mut self) -> bool {
        let readiness = self.control.readiness().await;
        let now = Instant::now();
        self.next_at = Some(now + PERIOD);
        match readiness {
            Ok(readiness) if readiness.ready => {
                let took = self.began_at.elapsed();
                print::line(format!("  ready after {:.1} s", took.as_secs_f64()));
                self.next_at = None;
                return true;
            }
            Ok(readiness) if readiness.waiting_on != self.told => {
                for reason in &readiness.waiting_on {
                    print::line(format!("  waiting  {reason}"));
                }
                self.told = readiness.waiting_on;
                self.hint_at = self.hint_at.map(|_| now + PATIENCE);
            }
            // Not listening yet, or nothing new.
            Ok(_) | Err(_) => {}
        }
        if self.hint_at.is_some_and(|at| now >= at) {
            print::line("  this takes long; the logs folder above may say why");
            self.hint_at = None;
        }
        false
    }
}
