//! The example relay as a program of its own, so that a benchmark builds and measures nothing else.
//! Never another relay: it is the very file of the example.

#[expect(unreachable_pub, reason = "the file is also a module of a library")]
#[path = "../../../examples/src/relay.rs"]
mod relay;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    relay::main(&arguments)
}
