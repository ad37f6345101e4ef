//! Which fleets can run on this machine: their command is there or it is not.
//!
//! Never installs or runs anything.

use std::path::{Path, PathBuf};

use crate::config::Config;

/// The word that means this binary.
const OURSELVES: &str = "greenroom";

/// The configuration without the fleets whose program is missing, and those with their program.
pub(super) fn without_missing(mut config: Config) -> (Config, Vec<(String, String)>) {
    let mut skipped = Vec::new();
    config.fleets.retain(|fleet| {
        let program = fleet.template.command.first().map_or("", String::as_str);
        let present = program == OURSELVES || find(program).is_some();
        if !present {
            skipped.push((fleet.name.to_string(), program.to_owned()));
        }
        present
    });
    (config, skipped)
}

/// Where `program` lies, as the system would find it: by path when it names one, else on the search path.
pub(super) fn find(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return is_executable(Path::new(program)).then(|| PathBuf::from(program));
    }
    let search = std::env::var_os("PATH")?;
    std::env::split_paths(&search).map(|folder| folder.join(program)).find(|path| is_executable(path))
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path)
        .is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn a_fleet_without_its_program_is_left_out_and_named() {
        let text = "[fleets.a]\nkind = \"mesh\"\ncommand = [\"no-such-program-here\"]\n\
                    [fleets.b]\nkind = \"mesh\"\ncommand = [\"sh\", \"-c\", \"true\"]\n\
                    [fleets.c]\nkind = \"mesh\"\ncommand = [\"greenroom\", \"example\", \"lobby\"]\n\
                    [fleets.d]\nkind = \"mesh\"\ncommand = [\"/no/such/program\"]\n";
        let (config, skipped) = without_missing(config::parse("t", text).expect("valid"));
        let names: Vec<&str> = config.fleets.iter().map(|fleet| fleet.name.as_str()).collect();
        assert_eq!(names, ["b", "c"]);
        assert_eq!(
            skipped,
            [("a".into(), "no-such-program-here".into()), ("d".into(), "/no/such/program".into())]
        );
    }
}
