//! A comparison to render: two systems of one task, and one of another.

use crate::results::{
    table::{self, Comparison, Options},
    tree::{Ending, Rates, Run, System, Task},
};
use std::collections::BTreeMap;

fn run(system: &str, rate: f64, seconds: f64, target: f64) -> Run {
    Run {
        path: system.into(),
        argument: String::new(),
        name: "run".into(),
        started: None,
        grade: None,
        system: System {
            name: system.into(),
            architecture: Some("x86_64".into()),
            ..System::default()
        },
        workload: "dlrm_dcnv2".into(),
        task: Task {
            benchmark: "dlrm_dcnv2".into(),
            data: BTreeMap::new(),
            model: BTreeMap::new(),
            target: Some(target),
            accuracy: None,
        },
        engine: Some("fused".into()),
        program: Some("0.1.0 0123456789".into()),
        precision: Some("fp32".into()),
        batch: Some(if rate > 1e6 { 55296 } else { 65536 }),
        seed: Some(1),
        settings: BTreeMap::new(),
        ending: Ending::Converged,
        seconds: Some(seconds),
        samples: Some(rate * seconds),
        epochs: Some(0.744),
        auc: Some(0.80294),
        auc_binned_1000: None,
        accuracy: None,
        gstep: None,
        loss: Some(0.125),
        throughput: Rates {
            end_to_end: Some(rate),
            training: Some(1.1256 * rate),
            steady: None,
            logged: None,
        },
        floor_share: None,
        joules: None,
        scaling_factor: None,
        evaluations: Vec::new(),
        warnings: Vec::new(),
        identity: Default::default(),
        key: system.into(),
    }
}

/// `big_one` has three runs, the others one.
pub(super) fn comparison(options: &Options) -> Comparison {
    let mut faster = run("big_one", 13_760_000.0, 240.0, 0.80275);
    faster.path = "again".into();
    let mut third = run("big_one", 13_546_810.0, 230.0, 0.80275);
    third.path = "and again".into();
    let runs = vec![
        third,
        run("big_one", 13_333_620.0, 220.0, 0.80275),
        faster,
        run("4-nodes-with-a-rather-long-name-as-clusters-have", 253_201.7, 13_628.28, 0.80275),
        run("easy", 1000.0, 60.0, 0.7),
    ];
    table::build(runs, options).unwrap()
}
