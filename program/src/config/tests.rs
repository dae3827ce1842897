//! Flags, a file, and both.

use clap::Parser;

use super::*;

#[derive(Debug, Default, PartialEq, Eq, Args)]
struct Sample {
    /// Name of the device [default: weft0]
    #[arg(long)]
    device_name: Option<String>,
    /// Where to go; may repeat
    #[arg(long = "place")]
    places: Vec<String>,
    /// A network; may repeat
    #[arg(id = "quietCIDRs", long = "quiet-cidr")]
    quiet_cidrs: Vec<String>,
    /// Go nowhere [default: false]
    #[arg(long, num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    stay: Option<String>,
}

/// Where to find something, which a path must not be empty for.
#[derive(Debug, Args)]
struct Place {
    #[arg(long)]
    directory: Option<PathBuf>,
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    source: Source<Sample>,
}

fn file(text: &str) -> (Sample, Vec<String>) {
    let (sample, problems) = of_text("a.yaml", text);
    (sample, Invalid::from(problems).0)
}

fn texts(list: &[&str]) -> Vec<String> {
    list.iter().map(|&text| text.to_owned()).collect()
}

#[test]
fn values_look_as_yaml_writes_them() {
    let (sample, problems) = file("deviceName: 12\nplaces: [a, -b, '1.10']\nquietCIDRs: 10.0.0.0/8\nstay: true\n");
    assert_eq!(problems, Vec::<String>::new());
    let expected = Sample {
        device_name: Some("12".into()),
        places: texts(&["a", "-b", "1.10"]),
        quiet_cidrs: texts(&["10.0.0.0/8"]),
        stay: Some("true".into()),
    };
    assert_eq!(sample, expected);
    let (sample, problems) = file("deviceName: off\nstay:\nplaces: [on]\n");
    assert_eq!((sample.device_name.as_deref(), sample.stay, problems), (Some("off"), None, vec![]));
    assert_eq!(sample.places, ["on"]);
}

#[test]
fn every_wrong_entry_is_told() {
    let (sample, problems) = file("devicename: a\ndeviceName: [b]\nplaces: {c: d}\nquietCIDRs: [1.10]\nstay: no\n");
    assert_eq!(sample.stay.as_deref(), Some("no"), "one wrong entry must not hide the others");
    let words =
        ["deviceName takes one value", "devicename is not known", "places is a mapping", "quietCIDRs is a fraction"];
    assert_eq!(problems.len(), words.len(), "{problems:?}");
    for (word, problem) in words.iter().zip(&problems) {
        assert!(problem.contains(word) && problem.contains("a.yaml"), "{word}: {problem}");
    }
}

#[test]
fn what_a_flag_would_not_take_is_one_problem_among_others() {
    let (place, problems) = of_text::<Place>("a.yaml", "directory: ''\nelsewhere: b\n");
    let Invalid(problems) = problems.into();
    assert_eq!((place.directory, problems.len()), (None, 2), "{problems:?}");
    assert!(problems[0].contains("option directory: a value is required for"), "{problems:?}");
}

#[test]
fn a_file_without_options_is_one() {
    assert_eq!(file("# nothing yet\n\n"), (Sample::default(), vec![]));
    for broken in ["- a\n", "places: [\n", "places: a\nplaces: b\n"] {
        assert_eq!(file(broken).1.len(), 1, "{broken}");
    }
}

#[test]
fn flags_win_over_the_file() {
    let path = std::env::temp_dir().join(format!("weft-program-config-{}", std::process::id()));
    std::fs::write(&path, "deviceName: of-file\nplaces: [a, b]\nquietCIDRs: [10.0.0.0/8]\n")
        .expect("a writable temp dir");
    let file = format!("--config={}", path.display());
    let cli = Cli::parse_from(["sample", &file, "--device-name", "of-flag", "--place", "c", "--stay"]);
    let (sample, problems) = cli.source.read();
    std::fs::remove_file(&path).expect("just written");
    assert!(problems.is_empty(), "{problems:?}");
    assert_eq!((sample.device_name.as_deref(), sample.stay.as_deref()), (Some("of-flag"), Some("true")));
    assert_eq!((sample.places, sample.quiet_cidrs), (texts(&["c"]), texts(&["10.0.0.0/8"])));
    let gone = Cli::parse_from(["sample", "--config=/nonexistent/weft.yaml", "--place=d"]);
    let (sample, problems) = gone.source.read();
    assert_eq!(sample.places, ["d"]);
    let error = Invalid::from(problems).to_string();
    assert!(error.contains("1 problem:") && error.contains("/nonexistent/weft.yaml"), "{error}");
}

#[test]
fn the_page_lists_each_option_with_its_default() {
    let page = reference::<Sample>("sample");
    for line in
        ["| `deviceName` | `--device-name` | weft0 | Name of the device |", "| `quietCIDRs` | `--quiet-cidr` |  |"]
    {
        assert!(page.contains(line), "{line} is missing in:\n{page}");
    }
}
