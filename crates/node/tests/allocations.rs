//! What a delivered message costs the allocator: nothing.

mod common;

use std::alloc::System;
use std::io::Read as _;
use std::net::TcpStream;

use common::{config, run, serve};
use greenroom_node::{Node, NodeHandle};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Frames of `everybody().emit("tick", &1)`.
const FRAME: &[u8] = b"\x81\x0c42[\"tick\",1]";

/// Reads what is due without an allocation of its own.
async fn drain(streams: &mut [TcpStream], bytes_each: usize) {
    let mut buffer = [0; 4096];
    for stream in streams {
        let mut missing = bytes_each;
        while missing > 0 {
            match stream.read(&mut buffer[..missing]) {
                Ok(read) => missing -= read,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }
}

/// Allocations of one round of `burst` broadcasts to everybody.
async fn allocations(handle: &NodeHandle, streams: &mut [TcpStream], burst: usize) -> usize {
    let region = Region::new(ALLOCATOR);
    for _ in 0..burst {
        handle.everybody().emit("tick", &1);
    }
    drain(streams, burst * FRAME.len()).await;
    region.change().allocations
}

async fn watchers(served: &common::Served, count: usize) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..count {
        let stream = common::wire::Wire::connect(served).await.into_stream();
        streams.push(stream.into_std().expect("a stream of the runtime has a descriptor"));
    }
    streams
}

#[test]
fn a_delivery_allocates_nothing_once_the_node_is_warm() {
    run(async {
        let served = serve(Node::new(config()));
        let mut streams = watchers(&served, 10).await;
        for burst in [1, 16] {
            for _ in 0..3 {
                allocations(&served.handle, &mut streams, burst).await;
            }
        }
        let mut counted = Vec::new();
        for burst in [1, 16] {
            counted.push(allocations(&served.handle, &mut streams, burst).await);
        }
        streams.extend(watchers(&served, 190).await);
        for burst in [1, 16] {
            for _ in 0..3 {
                allocations(&served.handle, &mut streams, burst).await;
            }
        }
        for (place, burst) in [1, 16].into_iter().enumerate() {
            let many = allocations(&served.handle, &mut streams, burst).await;
            assert_eq!(many, counted[place], "{burst} broadcasts to 10 and to 200");
        }
    });
}
