//! What a job runs, changed as its author does it: by commands.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use pelton_e2e::process::component;
use pelton_e2e::swapping::{JOB, Started, current, digest, rebuilt, start};
use pelton_engine::digest_of;
use serde_json::json;

const COMMIT: Duration = Duration::from_millis(50);

#[test]
fn a_component_is_pushed_tried_promoted_compared_dropped_and_gone_back_from() -> Result<()> {
    let Started { stage, host, process: _process, api, mut feed } = start(1, 4, COMMIT, 100)?;
    let config = host.config.to_string_lossy();
    let bytes = rebuilt(&std::fs::read(component("ledger")?)?, 1);
    let (file, kept) = (stage.folder().join("rebuilt.wasm"), format!("sha256:{}", digest_of(&bytes)));
    std::fs::write(&file, bytes)?;
    let file = file.to_str().context("a path in UTF-8")?;

    // Pushed, and to be seen.
    ensure!(api.command(&["component", "push", file], 0)?.0.trim() == kept);
    for (args, what) in
        [(["component", "list"].as_slice(), &kept[..]), (&["component", "show", &kept], "batch-processor")]
    {
        ensure!(api.command(args, 0)?.0.contains(what), "{args:?} without {what}");
    }

    // A canary of what is kept, with the configuration of what runs; then for all.
    let rule = ["--failures", "5", "--errors", "10%", "--slower", "9000%"];
    let made = api.command_json(&[&["deploy", JOB, &kept, "--canary", "1,3"], &rule[..]].concat())?;
    ensure!(
        made["deployment"] == 2 && made["component"] == kept && made["config"] == json!({ "version": "1" }),
        "{made}"
    );
    let tried = json!({
        "deployment": 2, "tasks": [1, 3], "failures_max": 5, "errors_percent": 10, "slower_percent": 9_000
    });
    ensure!(current(&api)?["canary"] == tried, "{}", current(&api)?);
    let (listed, _) = api.command(&["deployments", JOB], 0)?;
    ensure!(listed.contains("tasks 1, 3 (canary)") && listed.contains("all other tasks"), "{listed}");
    ensure!(api.command(&["promote", JOB], 0)?.0.trim() == "deployment 2");
    ensure!(current(&api)?["canary"].is_null() && digest(&api)? == kept);
    feed.put(&stage, 100)?;
    feed.check(&api)?;

    // A shadow of what the configuration names, and its end.
    ensure!(api.command(&["deploy", JOB, "-c", &config, "--shadow", "--share", "100%"], 0)?.0.trim() == "deployment 3");
    feed.put(&stage, 1_000)?;
    feed.check(&api)?;
    let found = api.command_json(&["shadow", JOB])?;
    ensure!(found["deployment"] == 3 && found["share_percent"] == 100, "{found}");
    ensure!(api.command(&["shadow", JOB], 0)?.0.contains("deployment 3: 0 differences in "));
    ensure!(api.command(&["deployments", JOB], 0)?.0.contains("compared (shadow)"));
    ensure!(api.command(&["promote", JOB, "--drop"], 0)?.0.trim() == "deployment 2");
    ensure!(current(&api)?["shadow"].is_null());

    // A share of the tasks, dropped.
    ensure!(api.command(&["deploy", JOB, file, "-c", &config, "--canary", "50%"], 0)?.0.trim() == "deployment 4");
    ensure!(current(&api)?["canary"]["tasks"].as_array().is_some_and(|tasks| tasks.len() == 2));
    ensure!(api.command(&["promote", JOB, "--drop"], 0)?.0.trim() == "deployment 2");

    // Back, by name and once; and what cannot be done is said and changes nothing.
    ensure!(api.command(&["rollback", JOB, "--to", "1"], 0)?.0.trim() == "deployment 1");
    let standing = current(&api)?;
    for (args, code, why) in [
        (["rollback", JOB].as_slice(), 1, "went back already"),
        (&["rollback", JOB, "--to", "9"], 1, "no deployment 9"),
        (&["promote", JOB], 1, "no canary and no shadow"),
        (&["shadow", JOB], 1, "no shadow"),
        (&["deploy", JOB, "--canary", "0%"], 2, "a share such as 10%"),
        (&["deploy", JOB, &kept, "--share", "5%"], 2, "--shadow"),
        (&["component", "show", "sha256:12"], 1, "digest"),
    ] {
        let (_, said) = api.command(args, code)?;
        ensure!(said.contains(why), "{args:?}: {said}");
    }
    ensure!(current(&api)? == standing);
    feed.put(&stage, 100)?;
    feed.check(&api)?;
    Ok(())
}
