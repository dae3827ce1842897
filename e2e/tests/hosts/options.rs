//! The README's tables of options are the programs' own.

use std::collections::BTreeMap;

use clap::{Args as _, Command, CommandFactory as _};

/// Flags that are called otherwise in a file, since they may repeat.
const RENAMED: [(&str, &str); 6] = [
    ("pool", "pools"),
    ("server-name", "serverNames"),
    ("underlay-network", "underlayNetworks"),
    ("controller", "controllers"),
    ("node-address", "nodeAddresses"),
    ("non-masquerade-cidr", "nonMasqueradeCIDRs"),
];

/// What a flag is called in a file.
fn key(flag: &str) -> String {
    if let Some((_, key)) = RENAMED.iter().find(|(long, _)| *long == flag) {
        return (*key).to_owned();
    }
    let mut words = flag.split('-');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..])
}

/// The options of a command, but those that say where others are.
fn options(command: &Command) -> Vec<String> {
    let flags = command.get_arguments().filter_map(|argument| argument.get_long());
    let mut keys: Vec<String> = flags.filter(|flag| !["config", "help", "version"].contains(flag)).map(key).collect();
    keys.sort();
    keys
}

/// How often the README's table of a program names each option.
fn listed(program: &str) -> BTreeMap<String, usize> {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../README.md")).expect("the README");
    let table = readme.split(&format!("| {program} | default | |\n")).nth(1).expect("a table of options");
    let mut found = BTreeMap::new();
    for line in table.lines().skip(1).take_while(|line| line.starts_with('|')) {
        let cell = line.trim_start_matches('|').split('|').next().unwrap_or_default();
        let names = cell.split('`').skip(1).step_by(2);
        // A flag or a variable stands behind the name, and `store: kubernetes` is a value.
        let is_name = |name: &&str| name.starts_with(char::is_lowercase) && name.chars().all(char::is_alphanumeric);
        for name in names.filter(is_name) {
            *found.entry(name.to_owned()).or_default() += 1;
        }
    }
    found
}

fn compare(program: &str, command: &Command) {
    let (options, listed) = (options(command), listed(program));
    let missing: Vec<_> = options.iter().filter(|option| !listed.contains_key(*option)).collect();
    let strange: Vec<_> = listed.keys().filter(|name| !options.contains(name)).collect();
    let twice: Vec<_> = listed.iter().filter(|(_, count)| **count != 1).collect();
    assert!(
        missing.is_empty() && strange.is_empty() && twice.is_empty(),
        "{program}: not listed {missing:?}; no option {strange:?}; listed more than once {twice:?}"
    );
}

#[test]
fn the_readme_lists_each_option_of_the_agent_once() {
    let mut command = weft_agent::cli::Cli::command();
    // Global options become those of each command.
    command.build();
    compare("agent", command.find_subcommand("run").expect("it runs"));
}

#[test]
fn the_readme_lists_each_option_of_the_controller_once() {
    compare("controller", &weft_controller::Options::augment_args(Command::new("run")));
}
