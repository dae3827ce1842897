//! Configuration: flags over the environment over a YAML file, all from the one definition of the flags.
//!
//! Owns how the three are laid over each other, what a file looks like, how problems are said, and the page that lists the
//! options. Must never know an option, nor hold a default: what a program's options mean is its own.

mod file;
mod problems;
mod reference;

use std::{ffi::OsString, marker::PhantomData, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use self::file::Entry;
pub use self::{
    problems::{Invalid, Problems, parse},
    reference::reference,
};

/// A program's options, and the file with more of them.
#[derive(Debug, Clone)]
pub struct Source<O> {
    file: Option<PathBuf>,
    flags: ArgMatches,
    of: PhantomData<O>,
}

/// What every option is called in a file: the name of its argument in camelCase.
fn key(argument: &Arg) -> String {
    let mut words = argument.get_id().as_str().split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..])
}

impl<O: Args> Args for Source<O> {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new("config")
            .long("config")
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("YAML file with the same options in camelCase; flags and variables win over it");
        O::augment_args(command.arg(file))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<O> FromArgMatches for Source<O> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Ok(Self { file: matches.get_one("config").cloned(), flags: matches.clone(), of: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<O: Args> Source<O> {
    /// Reads the file, if there is one, and lays the flags over it; with what is wrong with the file.
    pub fn read(&self) -> (O, Problems) {
        let mut problems = Problems::default();
        let (name, text) = match &self.file {
            Some(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(path);
                let unread =
                    |error| problems.tell(format!("config file {name} cannot be read: {error}; check --config"));
                let text = text.map_err(unread).unwrap_or_default();
                (name, text)
            }
            None => Default::default(),
        };
        let mut options: O = lay_out(&name, &text, &mut problems);
        options.update_from_arg_matches(&self.flags).expect("texts, which have been read once");
        (options, problems)
    }
}

/// The options of a file with this name and this text, with what is wrong with it.
pub fn of_text<O: Args>(name: &str, text: &str) -> (O, Problems) {
    let mut problems = Problems::default();
    (lay_out(name, text, &mut problems), problems)
}

fn lay_out<O: Args>(name: &str, text: &str, problems: &mut Problems) -> O {
    let command = O::augment_args(Command::new("options").no_binary_name(true).disable_help_flag(true));
    let mut words = Vec::new();
    for (key, entry) in file::read(name, text, problems) {
        match words_of(&command, &key, entry) {
            Ok(said) => words.extend(said),
            Err(problem) => problems.tell(format!("config file {name}: {problem}")),
        }
    }
    let matches = command.try_get_matches_from(words).expect("each option was tried alone, and none comes twice");
    O::from_arg_matches(&matches).expect("texts, none of which has to be given")
}

/// An entry as the words of a command line.
fn words_of(command: &Command, name: &str, entry: Entry) -> Result<Vec<OsString>, String> {
    let argument = command.get_arguments().find(|argument| key(argument) == name);
    let Some((argument, flag)) = argument.and_then(|argument| Some((argument, argument.get_long()?))) else {
        return Err(format!("option {name} is not known: see `run --help` for all of them"));
    };
    let values = match entry {
        Entry::None => vec![],
        Entry::One(value) => vec![value],
        Entry::Many(values) if matches!(argument.get_action(), ArgAction::Append) => values,
        Entry::Many(_) => return Err(format!("option {name} takes one value, not a list")),
        Entry::Unclear(what) => return Err(format!("option {name} is {what}")),
    };
    let words: Vec<OsString> = values.into_iter().map(|value| format!("--{flag}={value}").into()).collect();
    match command.clone().try_get_matches_from(&words) {
        Ok(_) => Ok(words),
        // What the flag would not take either, such as an empty path.
        Err(error) => Err(format!("option {name}: {}", first_line(&error))),
    }
}

/// What a flag's parser says, without the lines that lead to a help that a file has none of.
fn first_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests;
