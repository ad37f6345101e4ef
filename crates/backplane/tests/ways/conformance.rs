//! Every backplane passes the same suite.

use std::time::Duration;

use greenroom_backplane::conformance::{Stand, all, limits};
use greenroom_backplane::memory::Memory;
use greenroom_backplane::{Board, memory};
use greenroom_core::Timestamp;

use crate::config::{HEARTBEAT, config_at};
use crate::store::Store;

fn board() -> Board {
    Board::new(limits(), 7, std::collections::BTreeSet::new(), Timestamp::from_unix_ms(0))
}

#[tokio::test]
async fn a_board_in_this_process_is_a_backplane() {
    let (memory, serving) = Memory::serve(board());
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(serving);
    let mut way = |node| memory.way(node);
    all(&mut Stand { way: &mut way, gone_within: Duration::from_millis(50) }).await;
}

#[tokio::test]
async fn a_board_ends_with_its_last_way() {
    let (way, serving) = memory::memory(board(), "alone.0".parse().unwrap());
    drop(way);
    tokio::time::timeout(Duration::from_secs(10), serving).await.expect("it ends");
}

#[tokio::test]
async fn a_redis_is_a_backplane() {
    let store = Store::start(&[]);
    let mut way = |node| greenroom_backplane::redis::connect(config_at(store.port, node));
    all(&mut Stand { way: &mut way, gone_within: HEARTBEAT * 3 }).await;
}
