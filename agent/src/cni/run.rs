//! One run of the plugin: from environment and standard input to standard output and exit code.

use std::{
    io::{Read, Write},
    process::ExitCode,
};

use serde_json::{Map, Value, json};

use super::{
    CniError, Code, Version, add, check,
    config::{self, Config},
    del,
    env::{self, Command, Lookup},
    gc,
};

/// More than any network configuration; a runtime that sends more is out of order.
const LONGEST_INPUT: u64 = 4 << 20;

/// What the runtime gets to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// For standard output: a result, an error, or nothing.
    pub stdout: String,
    /// True where the exit code is 0.
    pub ok: bool,
}

/// The whole program `weft-cni`.
pub fn main() -> ExitCode {
    let env = |name: &str| std::env::var_os(name).map(|value| value.to_string_lossy().into_owned());
    let outcome = run(&env, std::io::stdin().lock());
    // A runtime that no longer reads has no use for an error either.
    let _ = std::io::stdout().write_all(outcome.stdout.as_bytes());
    if outcome.ok { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the command that the environment names.
pub fn run(env: Lookup<'_>, stdin: impl Read) -> Outcome {
    let mut version = Version::LATEST;
    match answer(env, stdin, &mut version) {
        Ok(stdout) => Outcome { stdout, ok: true },
        Err(error) => Outcome { stdout: error.to_json(version), ok: false },
    }
}

/// Sets `version` as soon as it is known, so that also errors are answered in it.
fn answer(env: Lookup<'_>, stdin: impl Read, version: &mut Version) -> Result<String, CniError> {
    let command = Command::read(env)?;
    let input = read_all(stdin)?;
    if command == Command::Version {
        return version_answer(&input);
    }
    let (given, fields) = config::version(&input)?;
    *version = given;
    need_version(command, given)?;
    let config = Config::read(given, fields)?;
    match command {
        Command::Add => {
            let key = env::attachment(env)?;
            add::add(&config, &key, &env::required_netns(env)?, env::pod_name(env)?)
        }
        Command::Del => {
            env::netns(env)?;
            del::del(&config, &env::attachment(env)?).map(|()| String::new())
        }
        Command::Check => {
            let key = env::attachment(env)?;
            check::check(config, &key, &env::required_netns(env)?).map(|()| String::new())
        }
        Command::Gc => gc::gc(config).map(|()| String::new()),
        Command::Status => gc::status(&config).map(|()| String::new()),
        Command::Version => unreachable!("answered above"),
    }
}

/// CHECK came with 0.4.0, GC and STATUS with 1.1.0.
fn need_version(command: Command, given: Version) -> Result<(), CniError> {
    let since = match command {
        Command::Add | Command::Del | Command::Version => Version::V0_3_1,
        Command::Check => Version::V0_4_0,
        Command::Gc | Command::Status => Version::V1_1_0,
    };
    if given >= since {
        return Ok(());
    }
    let text = format!("this command does not exist in cniVersion {given}: it came with {since}");
    Err(CniError::new(Code::IncompatibleVersion, text))
}

/// VERSION answers in the version it was asked in, whichever that is (specification, section "VERSION").
fn version_answer(input: &[u8]) -> Result<String, CniError> {
    let asked = if input.iter().all(u8::is_ascii_whitespace) {
        Map::new()
    } else {
        serde_json::from_slice(input).map_err(|error| {
            CniError::new(Code::Decode, "standard input is not a JSON object with cniVersion").because(error)
        })?
    };
    let own = Value::from(Version::LATEST.as_str());
    let echoed = asked.get("cniVersion").filter(|text| text.is_string()).unwrap_or(&own);
    Ok(json!({"cniVersion": echoed, "supportedVersions": Version::ALL.map(Version::as_str)}).to_string())
}

fn read_all(stdin: impl Read) -> Result<Vec<u8>, CniError> {
    let mut input = Vec::new();
    let read = stdin.take(LONGEST_INPUT + 1).read_to_end(&mut input);
    read.map_err(|error| CniError::new(Code::Io, "standard input cannot be read").because(error))?;
    if input.len() as u64 > LONGEST_INPUT {
        return Err(CniError::new(Code::Io, format!("standard input is longer than {LONGEST_INPUT} bytes")));
    }
    Ok(input)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_as(command: &str, stdin: &str) -> (bool, Value) {
        let outcome = run(&|name| (name == "CNI_COMMAND").then(|| command.to_owned()), stdin.as_bytes());
        (outcome.ok, serde_json::from_str(&outcome.stdout).expect("JSON"))
    }

    #[test]
    fn version_names_all() {
        for stdin in ["", "{\"cniVersion\":\"1.0.0\"}"] {
            let (ok, answer) = run_as("VERSION", stdin);
            assert!(ok);
            assert_eq!(answer["supportedVersions"], json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
        }
        assert_eq!(run_as("VERSION", "{\"cniVersion\":\"0.4.0\"}").1["cniVersion"], "0.4.0");
        assert_eq!(run_as("VERSION", "x").1["code"], 6);
    }

    #[test]
    fn errors_are_answered_in_the_version_asked_for() {
        let (ok, error) = run_as("CHECK", r#"{"cniVersion":"0.3.1","name":"weft"}"#);
        assert!(!ok);
        assert_eq!((&error["cniVersion"], &error["code"]), (&json!("0.3.1"), &json!(1)));
        let (_, error) = run_as("STATUS", r#"{"cniVersion":"1.0.0","name":"weft"}"#);
        assert_eq!((&error["cniVersion"], &error["code"]), (&json!("1.0.0"), &json!(1)));
        let (_, error) = run_as("ADD", r#"{"cniVersion":"1.0.0","name":"weft"}"#);
        assert_eq!((&error["cniVersion"], &error["code"]), (&json!("1.0.0"), &json!(4)));
        assert_eq!(run_as("NOTHING", "").1["code"], 4);
    }

    #[test]
    fn input_without_end_is_refused() {
        let outcome = run(&|_| Some("ADD".to_owned()), std::io::repeat(b' '));
        assert!(!outcome.ok && outcome.stdout.contains("\"code\":5"), "{}", outcome.stdout);
    }
}
