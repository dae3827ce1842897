//! What people see of an uninstallation, and when it fails.

use super::*;
use crate::kubernetes::fake::FakeApi;

const MAP: &str = "/api/v1/namespaces/weft-system/configmaps/weft-cluster";

fn options(timeout: Duration) -> UninstallOptions {
    let (namespace, release) = ("weft-system".to_owned(), "weft".to_owned());
    UninstallOptions { namespace, release, revision: 3, job: None, timeout }
}

fn chart() -> FakeApi {
    let api = FakeApi::default();
    api.put(MAP, json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "weft-cluster" } }));
    api
}

fn tell(api: &FakeApi, progress: &str) {
    let mut map = api.object(MAP);
    map["data"] = json!({ names::UNINSTALL: progress });
    api.put(MAP, map);
}

fn request(api: &FakeApi) -> UninstallRequest {
    let value = &api.object(MAP)["metadata"]["annotations"][names::UNINSTALL_ANNOTATION];
    serde_json::from_str(value.as_str().expect("it is asked")).expect("the documented form")
}

/// Runs it while a leader says one thing after the other, a second each.
async fn run(api: &FakeApi, timeout: u64, says: &[&str]) -> (Vec<String>, anyhow::Result<()>) {
    let mut lines = Vec::new();
    let mut say = |line: &str| lines.push(line.to_owned());
    let options = options(Duration::from_secs(timeout));
    let leader = async {
        for progress in says {
            sleep(Duration::from_secs(1)).await;
            let asked = request(api);
            assert_eq!((asked.release.as_str(), asked.revision), ("weft", 3));
            tell(api, progress);
        }
        std::future::pending::<()>().await;
    };
    let ended = tokio::select! {
        ended = follow(api.client(), &options, options.timeout, &mut say) => ended,
        () = leader => unreachable!("it never ends"),
    };
    (lines, ended)
}

const WAITING: &str =
    r#"{"state":"running","cleaned":["a"],"waiting":[{"node":"b","why":"its agent is not connected"}]}"#;
const DONE: &str = r#"{"state":"done","cleaned":["a","b"],"waiting":[]}"#;

#[tokio::test(start_paused = true)]
async fn each_step_is_one_line_and_the_end_is_success() {
    let (lines, ended) = run(&chart(), 60, &[WAITING, WAITING, DONE]).await;
    ended.expect("all are clean");
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines[0].contains("waiting for its answer"), "{lines:#?}");
    assert_eq!(lines[1], "1 of 2 nodes are clean; waiting for b (its agent is not connected)");
    assert!(lines[2].starts_with("done: ") && lines[2].contains("2 nodes"), "{lines:#?}");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_answer_is_named_with_a_way_out() {
    let begun = Instant::now();
    let (_, ended) = run(&chart(), 5, &[WAITING]).await;
    let error = ended.expect_err("b is not clean").to_string();
    assert!(error.contains("b (its agent is not connected)") && error.contains("--no-hooks"), "{error}");
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn without_a_controller_it_says_so() {
    let (_, ended) = run(&chart(), 5, &[]).await;
    let error = ended.expect_err("nobody answers").to_string();
    assert!(error.contains("no controller has answered"), "{error}");
    // An API server that hangs does not keep it longer either.
    let api = chart();
    api.set_silent(true);
    let begun = Instant::now();
    run(&api, 5, &[]).await.1.expect_err("nobody answers");
    assert_eq!(begun.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn the_end_of_an_earlier_attempt_is_not_believed() {
    let api = chart();
    tell(&api, DONE);
    let (lines, ended) = run(&api, 5, &[]).await;
    ended.expect_err("nobody has answered this attempt");
    assert!(!lines.iter().any(|line| line.starts_with("done")), "{lines:?}");
    let (_, ended) = run(&api, 5, &[DONE]).await;
    ended.expect("all are clean");
}

#[tokio::test(start_paused = true)]
async fn the_request_is_renewed_until_the_end() {
    let api = chart();
    let (seen, first) = (api.clone(), std::cell::RefCell::new(Vec::new()));
    let watching = async {
        for _ in 0..3 {
            sleep(RENEW).await;
            first.borrow_mut().push(request(&seen).beat);
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        (_, ended) = run(&api, 10, &[]) => ended.expect_err("nobody answers"),
        () = watching => unreachable!("it never ends"),
    };
    let mut beats = first.into_inner();
    beats.dedup();
    assert_eq!(beats.len(), 3, "{beats:?}");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_ends_it_at_once_with_the_reason() {
    const REFUSED: &str = r#"{"state":"refused","why":"Helm says that release weft is deployed"}"#;
    let begun = Instant::now();
    let (_, ended) = run(&chart(), 60, &[REFUSED]).await;
    let error = ended.expect_err("it is refused").to_string();
    assert!(error.contains("release weft is deployed"), "{error}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn the_jobs_deadline_leaves_time_to_say_why() {
    let job = |limit: i64| -> Job {
        let status = json!({ "startTime": "2023-11-14T22:13:20Z" });
        serde_json::from_value(json!({ "spec": { "activeDeadlineSeconds": limit, "template": {} }, "status": status }))
            .expect("a Job")
    };
    let now = UNIX_EPOCH + Duration::from_secs(1_700_000_000 + 60);
    assert_eq!(left(&job(255), now), Some(Duration::from_secs(180)));
    assert_eq!(left(&job(70), now), Some(Duration::ZERO), "it started late");
}

#[tokio::test(start_paused = true)]
async fn what_cannot_come_right_fails_at_once() {
    let begun = Instant::now();
    let error = run(&FakeApi::default(), 60, &[]).await.1.expect_err("no ConfigMap").to_string();
    assert!(error.contains("is Weft installed there?"), "{error}");
    let api = chart();
    api.refuse_writes(1, 403);
    let error = run(&api, 60, &[]).await.1.expect_err("not allowed").to_string();
    assert!(error.contains("get and patch"), "{error}");
    assert_eq!(begun.elapsed(), Duration::ZERO);
    // What may pass is waited for.
    let api = chart();
    api.refuse_writes(2, 503);
    let mut lines = Vec::new();
    let mut say = |line: &str| lines.push(line.to_owned());
    let options = options(Duration::from_secs(5));
    follow(api.client(), &options, options.timeout, &mut say).await.expect_err("nobody answers");
    assert!(lines[0].contains("does not answer") && lines[1].contains("waiting for its answer"), "{lines:#?}");
}
