//! How much memory a process holds.
//!
//! Never touches the process.

use std::fs;

use greenroom_wire::agent::FromAgent;

/// A report with the memory of each process in it; other messages as they are.
pub(crate) fn weighed(mut message: FromAgent) -> FromAgent {
    if let FromAgent::Report(report) = &mut message {
        for server in &mut report.servers {
            server.measured.memory_bytes = server.pid.and_then(resident_bytes);
        }
    }
    message
}

/// Resident bytes of a process, as the kernel tells them. `None` where it does not, or the process is gone.
fn resident_bytes(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_holds_some_memory_and_one_that_is_not_there_none() {
        let own = resident_bytes(std::process::id()).expect("it runs");
        assert!((100_000..100_000_000_000).contains(&own), "{own}");
        assert_eq!(resident_bytes(u32::MAX), None);
    }
}
