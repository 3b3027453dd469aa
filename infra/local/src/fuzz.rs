//! Feeds what reads foreign input with made-up input, for a bounded time.
//!
//! The targets are in `tests/fuzz`, each with seeds beside it. What a run learns stays in cargo's target directory.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::cargo_tool::FUZZ;
use crate::failure::{Failure, Outcome, While};
use crate::progress::Progress;
use crate::project::Project;

/// How long each target runs where neither the option nor the variable says.
const DEFAULT_SECONDS: u32 = 60;
/// The variable for scripts.
const SECONDS: &str = "HARKARA_FUZZ_SECONDS";
/// No input may take longer; a function of Harkara has no more for a whole batch.
const INPUT_TIMEOUT: &str = "-timeout=10";
/// As much memory as a function has.
const MEMORY_LIMIT: &str = "-rss_limit_mb=512";
/// How often the targets are looked at.
const POLL: Duration = Duration::from_millis(200);
/// After its time is up, a target may still finish an input and write down what it learnt.
const PATIENCE: Duration = Duration::from_secs(60);

/// What to run.
#[derive(Debug)]
pub struct FuzzRequest {
    /// One target, or all.
    pub target: Option<String>,
    /// For how long each.
    pub seconds: Option<u32>,
    /// Only this input: the one of a finding.
    pub input: Option<PathBuf>,
}

/// Builds the targets and runs them, as many at a time as there are cores.
///
/// Errors: there is no such target, it does not build, or an input broke a promise.
pub fn fuzz(project: &Project, request: &FuzzRequest) -> Outcome<()> {
    project.make_folders()?;
    let progress = Progress::new();
    let places = Places::of(project);
    let targets = choose_targets(&places, request.target.as_deref())?;
    let seconds = request.seconds.map_or_else(seconds_of_environment, Ok)?;
    FUZZ.install(project, &progress)?;
    build(project, &places, &progress)?;
    if let Some(input) = &request.input {
        return replay(&places, &targets, input);
    }
    let at_once = std::thread::available_parallelism().map_or(1, usize::from);
    let mut findings = Vec::new();
    for group in targets.chunks(at_once) {
        findings.extend(run_group(project, &places, group, seconds, &progress)?);
    }
    match findings.into_iter().next() {
        None => Ok(()),
        Some(first) => Err(first),
    }
}

/// Where the targets are, and where they are built and learn.
struct Places {
    crate_folder: PathBuf,
    built: PathBuf,
}

impl Places {
    fn of(project: &Project) -> Self {
        Self { crate_folder: project.root().join("tests/fuzz"), built: project.target().join("fuzz") }
    }

    fn seeds(&self, target: &str) -> PathBuf {
        self.crate_folder.join("seeds").join(target)
    }

    fn learnt(&self, target: &str) -> PathBuf {
        self.built.join("learnt").join(target)
    }

    fn findings(&self, target: &str) -> PathBuf {
        self.built.join("findings").join(target)
    }

    /// The program of a target, below the folder that cargo names after the machine.
    fn program(&self, target: &str) -> Outcome<PathBuf> {
        let entries = std::fs::read_dir(&self.built).while_doing(format_args!("reading {}", self.built.display()))?;
        entries
            .filter_map(Result::ok)
            .map(|entry| entry.path().join("release").join(target))
            .find(|program| program.is_file())
            .ok_or_else(|| Failure::new(format!("the target {target} was not built")))
    }
}

fn choose_targets(places: &Places, wanted: Option<&str>) -> Outcome<Vec<String>> {
    let folder = places.crate_folder.join("targets");
    let entries = std::fs::read_dir(&folder).while_doing(format_args!("reading {}", folder.display()))?;
    let mut targets: Vec<String> =
        entries.filter_map(|entry| Some(entry.ok()?.path().file_stem()?.to_string_lossy().into_owned())).collect();
    targets.sort();
    match wanted {
        None => Ok(targets),
        Some(wanted) if targets.iter().any(|target| target == wanted) => Ok(vec![wanted.to_owned()]),
        Some(wanted) => Err(Failure::new(format!("there is no target {wanted}"))
            .with_advice(format!("Take one of {}.", targets.join(", ")))),
    }
}

fn seconds_of_environment() -> Outcome<u32> {
    match std::env::var(SECONDS) {
        Err(_) => Ok(DEFAULT_SECONDS),
        Ok(text) => text.parse().while_doing(format_args!("reading {SECONDS}")),
    }
}

/// Without a sanitizer: they need an unstable compiler, and no code of Harkara's is `unsafe`.
fn build(project: &Project, places: &Places, progress: &Progress) -> Outcome<()> {
    progress.say("building the fuzz targets (the first time: two minutes) …");
    let log = project.log("fuzz-build");
    let out = File::create(&log).while_doing(format_args!("opening {}", log.display()))?;
    let err = out.try_clone().while_doing(format_args!("opening {}", log.display()))?;
    let status = FUZZ
        .command(project)
        .args(["build", "--sanitizer", "none", "--fuzz-dir"])
        .arg(&places.crate_folder)
        .arg("--target-dir")
        .arg(&places.built)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .status()
        .while_doing("starting cargo-fuzz")?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new("the fuzz targets do not build")
        .with_log(&log)
        .with_advice("Mend what the compiler names. libFuzzer needs a C++ compiler (c++) beside Rust."))
}

/// A target at work.
struct Running {
    target: String,
    child: Child,
    log: PathBuf,
}

/// What broke a promise is not an error of the run: the others go on.
fn run_group(
    project: &Project,
    places: &Places,
    targets: &[String],
    seconds: u32,
    progress: &Progress,
) -> Outcome<Vec<Failure>> {
    let mut running =
        targets.iter().map(|target| start(project, places, target, seconds)).collect::<Outcome<Vec<_>>>()?;
    let started = Instant::now();
    let names = targets.join(", ");
    let is_terminal = std::io::stderr().is_terminal();
    let mut findings = Vec::new();
    while !running.is_empty() {
        let passed = started.elapsed();
        // Every second where a line can be redrawn, and few lines where not.
        let shown = if is_terminal { passed.as_secs() } else { passed.as_secs() / 10 * 10 };
        progress.show(&format!("{names}: {} of {seconds} s", shown.min(u64::from(seconds))));
        let mut left = Vec::new();
        for mut run in running {
            match run.child.try_wait().while_doing("waiting for a target")? {
                Some(status) if status.success() => progress.say(&format!("{}: {}", run.target, sum_up(&run.log))),
                Some(_) => {
                    progress.say(&format!("{}: an input broke a promise", run.target));
                    findings.push(finding(places, &run));
                }
                None if passed > Duration::from_secs(u64::from(seconds)) + PATIENCE => {
                    run.child.kill().while_doing("ending a target")?;
                    run.child.wait().while_doing("ending a target")?;
                    findings.push(Failure::new(format!("{} did not end", run.target)).with_log(&run.log));
                }
                None => left.push(run),
            }
        }
        running = left;
        sleep(POLL);
    }
    Ok(findings)
}

fn start(project: &Project, places: &Places, target: &str, seconds: u32) -> Outcome<Running> {
    let (learnt, findings) = (places.learnt(target), places.findings(target));
    for folder in [&learnt, &findings] {
        std::fs::create_dir_all(folder).while_doing(format_args!("making {}", folder.display()))?;
    }
    let log = project.log(&format!("fuzz-{target}"));
    let out = File::create(&log).while_doing(format_args!("opening {}", log.display()))?;
    let err = out.try_clone().while_doing(format_args!("opening {}", log.display()))?;
    let child = Command::new(places.program(target)?)
        .arg(format!("-max_total_time={seconds}"))
        .args([INPUT_TIMEOUT, MEMORY_LIMIT, "-print_final_stats=1"])
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .arg(&learnt)
        .arg(places.seeds(target))
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .spawn()
        .while_doing(format_args!("starting {target}"))?;
    Ok(Running { target: target.to_owned(), child, log })
}

/// What libFuzzer's last lines say.
fn sum_up(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let word_after = |mark: &str| {
        text.lines().rev().find_map(|line| line.split_once(mark)?.1.split_whitespace().next().map(str::to_owned))
    };
    let inputs = word_after("stat::number_of_executed_units:").unwrap_or_default();
    let reached = word_after("cov:").unwrap_or_default();
    format!("{inputs} inputs reached {reached} places, every promise held")
}

fn finding(places: &Places, run: &Running) -> Failure {
    let text = std::fs::read(&run.log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let input = text.lines().rev().find_map(|line| line.split_once("Test unit written to ")).map(|(_, path)| path);
    let failure = Failure::new(format!("{}: {}", run.target, promise(&text))).with_log(&run.log);
    match input {
        None => failure,
        Some(path) => failure.with_advice(format!(
            "`cargo local fuzz {} --input {path}` runs that input alone; once mended, keep it in {}.",
            run.target,
            places.seeds(&run.target).display()
        )),
    }
}

/// The words of the assertion, which follow the line that says where it stands.
fn promise(log: &str) -> String {
    let mut lines = log.lines().skip_while(|line| !line.contains(" panicked at "));
    let place = lines.next().and_then(|line| line.split_once(" panicked at ")).map(|(_, place)| place);
    match (place, lines.next()) {
        (Some(place), Some(words)) => format!("{words} ({})", place.trim_end_matches(':')),
        _ => "it crashed, was too slow or took too much memory".to_owned(),
    }
}

fn replay(places: &Places, targets: &[String], input: &Path) -> Outcome<()> {
    let [target] = targets else {
        return Err(Failure::new("an input needs its target").with_advice("Name the target before the option."));
    };
    let output = Command::new(places.program(target)?)
        .args([INPUT_TIMEOUT, MEMORY_LIMIT])
        .arg(input)
        .output()
        .while_doing(format_args!("starting {target}"))?;
    std::io::stderr().write_all(&output.stderr).while_doing("printing")?;
    if output.status.success() { Ok(()) } else { Err(Failure::new(promise(&String::from_utf8_lossy(&output.stderr)))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_told_by_its_promise() {
        let log =
            "INFO: x\nthread '<unnamed>' panicked at targets/header.rs:34:9:\nwould end a line\nstack backtrace:\n";
        assert_eq!(promise(log), "would end a line (targets/header.rs:34:9)");
        assert_eq!(promise("ERROR: libFuzzer: timeout"), "it crashed, was too slow or took too much memory");
    }
}
