//! Whose credentials read, how often they are asked for, and that nothing crosses from one provider to another.

use std::{collections::BTreeSet, time::Duration};

use serde_json::json;

use super::{LATENCY, all_calls, all_mirrored, mirror_secrets, names, reads, rechecked};
use crate::support::{SECONDS, Scene, TTL, WITHIN_TTL, emulated, emulated_before_controller, says, until, world};

/// Starts the controller with credentials as a container gets them, and waits until it is ready.
async fn start_with_container_credentials(s: &mut Scene) {
    let url = format!("{}/credentials", s.front.url());
    s.start_controller_with(&world().kubeconfig, &[], &[("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url)]);
    s.controller_ready().await;
}

#[tokio::test]
async fn credentials_are_asked_for_once_and_few_connections_serve_all_reads() {
    emulated_before_controller("container", async |s| {
        s.provide(&["*"]).await;
        s.front.delay(LATENCY, Duration::ZERO);
        let also = s.provide_also("also", &s.front.url(), &["*"]).await;
        let all = names("s", 60);
        mirror_secrets(s, &all, TTL).await;
        let again = names("also", 60);
        s.apply_all(&again, |name| {
            let mut spec = reads(&format!("aws.sm://{}", s.path(&format!("s{}", &name[4..]))), TTL);
            spec["provider"] = json!({"kind": "ClusterRobotoProvider", "name": also});
            spec
        })
        .await;
        start_with_container_credentials(s).await;
        s.all("Ready", "True Mirrored", SECONDS * 2).await;
        let ids: Vec<String> = all.iter().map(|name| s.path(name)).collect();
        rechecked(s, &ids, 4).await;
        assert_eq!(s.emulator().credentials_asked(), 1);
        // As many as calls were under way at once, and the one for the credentials.
        let (connections, at_once) = (s.front.connections(), s.front.most_in_flight());
        assert!(connections <= u64::try_from(at_once).unwrap() + 2, "{connections} connections, {at_once} calls at once");
        assert!(at_once <= 10 && all_calls(s) > at_once, "{} calls, {at_once} at once", all_calls(s));
    })
    .await;
}

#[tokio::test]
async fn credentials_that_run_out_soon_are_renewed_before_they_do() {
    emulated_before_controller("short-lived", async |s| {
        s.provide(&["*"]).await;
        let life = Duration::from_secs(100);
        s.emulator().credentials_live(life);
        let all = names("s", 3);
        mirror_secrets(s, &all, TTL).await;
        let started = std::time::Instant::now();
        start_with_container_credentials(s).await;
        all_mirrored(s, &all).await;
        until("other credentials are used", WITHIN_TTL * 2, async || (keys(s).len() >= 2).then_some(())).await;
        assert!(started.elapsed() < life, "they ran out first");
        s.all("Fresh", "True Verified", SECONDS).await;
    })
    .await;
}

/// The access keys that reads were signed with.
fn keys(s: &Scene) -> BTreeSet<String> {
    s.front.calls().into_iter().filter(|call| call.service == "secretsmanager").map(|call| call.access_key_id).collect()
}

#[tokio::test]
async fn what_one_provider_may_read_is_not_given_to_those_who_ask_another() {
    emulated("isolation", async |s| {
        let narrow = s.provide_also("narrow", &s.front.url(), &[&format!("aws.sm://{}/public/*", s.namespace)]).await;
        s.put_secret("private/db", &s.value("private")).await;
        s.put_secret("public/db", &s.value("public")).await;
        let private = format!("aws.sm://{}", s.path("private/db"));
        let arn = s.emulator().secret_arn(&s.path("private/db")).unwrap();
        let through = |reference: &str| {
            let mut spec = reads(reference, TTL);
            spec["provider"] = json!({"kind": "ClusterRobotoProvider", "name": narrow});
            spec.to_string()
        };
        s.apply("wide", &reads(&private, TTL).to_string()).await;
        s.apply("narrow", &through(&private)).await;
        s.apply("narrow-arn", &through(&arn)).await;
        s.apply("narrow-public", &through(&format!("aws.sm://{}", s.path("public/db")))).await;
        for name in ["wide", "narrow-public"] {
            s.ready(name).await;
        }
        for name in ["narrow", "narrow-arn"] {
            says(&s.condition(name, "Ready", "False NotAllowed", SECONDS).await, &narrow);
        }
        // Both read on for a while, side by side.
        rechecked(s, &[s.path("private/db"), s.path("public/db")], 2).await;
        s.put_secret("private/db", &s.value("private-2")).await;
        s.holds("wide", &[("value", &s.value("private-2"))], WITHIN_TTL).await;
        for name in ["narrow", "narrow-arn"] {
            assert_eq!(s.data(name).await, None);
            s.condition(name, "Ready", "False NotAllowed", SECONDS).await;
        }
        s.holds("narrow-public", &[("value", &s.value("public"))], SECONDS).await;
    })
    .await;
}
