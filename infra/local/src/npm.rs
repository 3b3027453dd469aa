//! Packages from npm, pinned by a lock file, for the Node of the Python environment.

use std::path::Path;

use crate::failure::{Failure, Outcome, While};
use crate::fingerprint;
use crate::project::Project;
use crate::python::{Environment, Node};

/// Installs the packages that the lock file in `source` names to `.local/<name>`, when it has changed.
///
/// Errors: a package that cannot be had.
pub fn install(project: &Project, environment: &Environment, name: &str, source: &Path) -> Outcome<()> {
    let folder = project.local().join(name);
    let stamp = folder.join("installed");
    let print = fingerprint::of_file(&source.join("package-lock.json"))?;
    if fingerprint::is_stamped(&stamp, &print) {
        return Ok(());
    }
    std::fs::create_dir_all(&folder).while_doing(format_args!("making {}", folder.display()))?;
    for file in ["package.json", "package-lock.json"] {
        let from = source.join(file);
        std::fs::copy(&from, folder.join(file)).while_doing(format_args!("copying {}", from.display()))?;
    }
    let log = project.log(&format!("npm-{name}"));
    let out = std::fs::File::create(&log).while_doing(format_args!("opening {}", log.display()))?;
    let err = out.try_clone().while_doing("opening a log")?;
    let status = Node::of(environment)?
        .npm()
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier"])
        .current_dir(&folder)
        .stdin(std::process::Stdio::null())
        .stdout(out)
        .stderr(err)
        .status()
        .while_doing("running npm")?;
    if !status.success() {
        return Err(Failure::new(format!("installing the {name} failed"))
            .with_log(&log)
            .with_advice("See that the npm registry can be reached, then run the command again."));
    }
    fingerprint::stamp(&stamp, &print)
}
