//! The page that lists a program's options.
//!
//! Owns its form. Must never say of an option what its help does not.

use std::fmt::Write as _;

use clap::{Arg, Args, Command};

use super::key;

/// A page in Markdown with all options of `program`, in the order of its help.
pub fn reference<O: Args>(program: &str) -> String {
    let command = O::augment_args(Command::new("options"));
    let mut page = format!(
        "# Options of {program}\n\n\
         Written by `{program} reference`. In the file that `--config` names an option has the first name, as YAML; a flag wins\n\
         over a variable, and a variable over the file. What is wrong is told all at once.\n\n\
         | option | flag | default | |\n| --- | --- | --- | --- |\n"
    );
    for argument in command.get_arguments() {
        let (meaning, default) = help(argument);
        let _ = writeln!(page, "| `{}` | {} | {default} | {meaning} |", key(argument), flag(argument));
    }
    page
}

/// Flag and variable.
fn flag(argument: &Arg) -> String {
    let flag = argument.get_long().unwrap_or_default();
    match argument.get_env().and_then(|name| name.to_str()) {
        Some(variable) => format!("`--{flag}`, `{variable}`"),
        None => format!("`--{flag}`"),
    }
}

/// What an option means, and its default, which closes the help in brackets.
fn help(argument: &Arg) -> (String, String) {
    let text = argument.get_long_help().or_else(|| argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let text = text.replace('\n', " ").replace('|', "\\|");
    match text.split_once(" [default: ") {
        Some((meaning, default)) => (meaning.to_owned(), default.trim_end_matches(']').to_owned()),
        None => (text, String::new()),
    }
}
