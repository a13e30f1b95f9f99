//! The chart's alerts and its dashboard: that Prometheus takes them, when the alerts fire, and that they ask for nothing that isn't served.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use regex::Regex;
use robotosecret::api::status::Reason;
use serde_json::{Value, json};
use testbed::{
    TempFolder,
    binaries::{Tool, find},
    chart::documents,
};

use crate::{
    chart::template,
    support::{Said, root, run, scene},
};

const RUNBOOK: &str = r#"prometheusRule={"enabled": true, "runbookUrl": "https://example.com/operations.md"}"#;
/// What Prometheus adds to each series that it scrapes by a `ServiceMonitor`.
const SCRAPED: [&str; 4] = ["job", "namespace", "instance", "pod"];

fn promtool(folder: &Path, arguments: &[&str]) -> Said {
    run(Command::new(find(Tool::Promtool).unwrap()).args(arguments).current_dir(folder), "")
}

/// The object of this kind that the chart renders with these values.
fn rendered(kind: &str, values: &[&str]) -> Value {
    let said = template("sys", values);
    assert!(said.ok, "{said:?}");
    documents(&said.out).unwrap().into_iter().find(|object| object["kind"] == kind).unwrap()
}

fn alerts() -> Vec<Value> {
    let spec = rendered("PrometheusRule", &[RUNBOOK])["spec"].take();
    spec["groups"].as_array().unwrap().iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// The dashboard, as Grafana's sidecar gets it.
fn dashboard() -> Value {
    let map = rendered("ConfigMap", &["grafanaDashboard.enabled=true"]);
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    serde_json::from_str(map["data"]["robotosecret.json"].as_str().unwrap()).unwrap()
}

/// The queries of the dashboard's panels, with Grafana's variables filled in.
fn queries(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row");
    let targets = panels.flat_map(|panel| panel["targets"].as_array().unwrap_or_else(|| panic!("{panel}")));
    let filled = |query: &str| query.replace("$__rate_interval", "5m").replace("$job", ".*").replace("$namespace", ".*");
    targets.map(|target| filled(target["expr"].as_str().unwrap())).collect()
}

#[test]
fn the_alerts_fire_when_they_should_and_say_what_it_is() {
    let folder = TempFolder::new("alerts").unwrap();
    let rules = rendered("PrometheusRule", &[RUNBOOK])["spec"].take();
    std::fs::write(folder.path().join("rules.yaml"), rules.to_string()).unwrap();
    let cases = std::fs::read_to_string(root().join("tests/behaviour/alerts.yaml")).unwrap();
    std::fs::write(folder.path().join("alerts.yaml"), &cases).unwrap();
    let said = promtool(folder.path(), &["check", "rules", "rules.yaml"]);
    assert!(said.ok, "{said:?}");
    let said = promtool(folder.path(), &["test", "rules", "alerts.yaml"]);
    assert!(said.ok, "{said:?}");
    // Each is seen firing, and not firing.
    let cases: Value = serde_yaml::from_str(&cases).unwrap();
    for alert in alerts() {
        let tests = cases["tests"].as_array().unwrap().iter().flat_map(|test| test["alert_rule_test"].as_array().unwrap());
        let fired: BTreeSet<bool> = tests.filter(|test| test["alertname"] == alert["alert"]).map(|test| test["exp_alerts"] != json!([])).collect();
        assert_eq!(fired.len(), 2, "{}", alert["alert"]);
    }
}

#[test]
fn every_alert_has_a_page_that_says_what_to_do() {
    let page = std::fs::read_to_string(root().join("docs/operations.md")).unwrap();
    let headings: BTreeSet<String> = page.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches(['#', ' ']).to_lowercase()).collect();
    let alerts = alerts();
    assert_eq!(alerts.len(), 6);
    for alert in &alerts {
        let anchor = alert["annotations"]["runbook_url"].as_str().unwrap().strip_prefix("https://example.com/operations.md#").unwrap();
        assert!(headings.contains(anchor), "docs/operations.md has no heading {}", alert["alert"]);
        assert!(alert["annotations"]["summary"].is_string() && alert["annotations"]["description"].is_string() && alert["labels"]["severity"].is_string());
    }
    // No address, no annotation that leads nowhere.
    let rule = rendered("PrometheusRule", &["prometheusRule.enabled=true"]);
    assert!(!rule.to_string().contains("runbook_url") && rule.to_string().contains("description"));
}

#[test]
fn the_alerts_are_about_the_release_or_whatever_one_selects() {
    let expressions = |values: &[&str]| {
        let rule = rendered("PrometheusRule", values);
        let rules = rule["spec"]["groups"][0]["rules"].as_array().unwrap();
        rules.iter().map(|rule| rule["expr"].as_str().unwrap()).collect::<Vec<_>>().join("\n")
    };
    let plain = expressions(&["prometheusRule.enabled=true"]);
    assert!(plain.contains(r#"{job="robotosecret",namespace="sys"}"#), "{plain}");
    let chosen = expressions(&["prometheusRule.enabled=true", r#"prometheusRule.selector="app='x'""#, "prometheusRule.staleAfterSeconds=777"]);
    assert!(chosen.contains("{app='x'}") && !chosen.contains("job=") && chosen.contains("> 777"), "{chosen}");
}

#[test]
fn prometheus_understands_every_query_of_the_dashboard() {
    let dashboard = dashboard();
    let queries = queries(&dashboard);
    assert!(queries.len() >= 15, "{}", queries.len());
    let rules: Vec<Value> = queries.iter().enumerate().map(|(number, query)| json!({"record": format!("panel:{number}"), "expr": query})).collect();
    let folder = TempFolder::new("dashboard").unwrap();
    std::fs::write(folder.path().join("rules.yaml"), json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string()).unwrap();
    let said = promtool(folder.path(), &["check", "rules", "rules.yaml"]);
    assert!(said.ok, "{said:?}");
    // Every panel says what it shows, lies on the grid of 24 columns and has an id of its own.
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<i64> = panels.iter().map(|panel| panel["id"].as_i64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    for panel in panels {
        let place = |side: &str| panel["gridPos"][side].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24 && place("h") > 0, "{panel}");
        assert!(panel["type"] == "row" || !panel["description"].as_str().unwrap().is_empty(), "{panel}");
    }
}

#[tokio::test]
async fn alerts_and_dashboard_ask_only_for_metrics_and_labels_that_are_served() {
    scene("monitoring", async |s| {
        s.put_secret("db", &s.value("one")).await;
        s.apply("db", &format!("uri: aws.sm://{}", s.path("db"))).await;
        s.ready("db").await;
        let label = Regex::new(r#"([a-z_]+)(?:=~|!~|!=|=)"([^"]*)""#).unwrap();
        let mut served: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for line in s.controller().page("/metrics").1.lines().filter(|line| !line.starts_with('#')) {
            let series = line.rsplit_once(' ').unwrap().0;
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            served.entry(name.to_owned()).or_default().extend(label.captures_iter(labels).map(|found| found[1].to_owned()));
        }
        let outcomes: BTreeSet<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).chain(["ok", "error"]).collect();
        let (selector, name) = (Regex::new(r"(robotosecret_[a-z_]+)\{([^}]*)\}").unwrap(), Regex::new("robotosecret_[a-z_]+").unwrap());
        let grouping = Regex::new(r"(?:by|on) \(([^)]*)\)").unwrap();
        let alerts = alerts().iter().map(|alert| alert["expr"].as_str().unwrap().to_owned()).collect::<Vec<_>>();
        let all: Vec<String> = alerts.into_iter().chain(queries(&dashboard())).collect();
        for query in &all {
            let mut known: BTreeSet<&str> = SCRAPED.into();
            for found in selector.captures_iter(query) {
                let labels = served.get(&found[1]).unwrap_or_else(|| panic!("{} is not served: {query}", &found[1]));
                known.extend(labels.iter().map(String::as_str));
                for matcher in label.captures_iter(&found[2]) {
                    assert!(labels.contains(&matcher[1]) || SCRAPED.contains(&&matcher[1]), "{} has no label {}: {query}", &found[1], &matcher[1]);
                    assert!(&matcher[1] != "outcome" || outcomes.contains(&matcher[2]), "no outcome {}: {query}", &matcher[2]);
                }
            }
            // Each is asked for within a release, never across all.
            assert_eq!(selector.find_iter(query).count(), name.find_iter(query).count(), "{query}");
            for group in grouping.captures_iter(query).flat_map(|found| found[1].split(", ").map(str::to_owned).collect::<Vec<_>>()) {
                assert!(known.contains(group.as_str()), "nothing here has the label {group}: {query}");
            }
        }
        // What the dashboard's variables are filled from.
        for variable in dashboard()["templating"]["list"].as_array().unwrap() {
            for metric in name.find_iter(variable["definition"].as_str().unwrap_or_default()) {
                assert!(served.contains_key(metric.as_str()), "{variable}");
            }
        }
    })
    .await;
}
