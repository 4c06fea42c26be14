//! Runs that are fed by the device against the same runs fed by the host: the same bits in
//! everything.

use super::*;
use crate::{
    backend::{
        StepContext,
        cuda::{Cuda, driver::Driver, testing::devices},
    },
    batch::Bags,
    data::{Dataset, loader},
    engine::{EngineConfig, FusedEngine},
    metrics::{self, Quality},
    model::init::{InitSource, Initializer},
    train::evaluate::EvalSplit,
    workload,
};
use std::{path::Path, rc::Rc, sync::atomic::AtomicBool};

/// A small run of a workload with more settings.
fn small(set: &[&str]) -> Workload {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads/quickstart.toml");
    let few = [
        "data.train_samples=150",
        "data.eval_samples=3000",
        "train.batch_size=64",
        "train.epochs=3",
        "eval.batch_size=500",
    ];
    let narrow = ["model.dim=8", "model.bottom=[8]", "model.top=[16, 1]"];
    let set: Vec<String> = few.iter().chain(&narrow).chain(set).map(|s| (*s).to_owned()).collect();
    let mut w = workload::load(&file, &set).unwrap().workload;
    w.engine.device = Device::Cuda(0);
    w
}

fn config(workload: &Workload) -> EngineConfig {
    workload.engine_config(&workload.data_schema().unwrap().unwrap()).unwrap()
}

fn engine(driver: &Rc<dyn Driver>, config: &EngineConfig) -> FusedEngine<Cuda> {
    let mut init = Initializer::new(&config.model, InitSource::Philox { seed: 5 });
    FusedEngine::on_driver(driver, config, &mut init).unwrap()
}

/// Epoch, whether it ends, number of samples, ids as the host knows them, and loss of each step.
type Steps = Vec<(u64, bool, usize, Vec<Bags>, u32)>;

/// Trains to the end, as many steps ahead as the device takes, and evaluates.
fn run(engine: &mut dyn Engine, workload: &Workload, on_device: bool) -> (Steps, Quality) {
    let Dataset { train, eval, .. } = workload.open_data().unwrap();
    let (plan, batch_size) = (workload.loader_plan(), workload.eval.batch_size);
    let [generated, eval_generated] =
        if on_device { attach_generator(engine, [&*train, &*eval]).unwrap() } else { [None, None] };
    assert_eq!((generated.is_some(), eval_generated.is_some()), (on_device, on_device));
    let mut feed = Feed::start(train, plan, generated).unwrap();
    let (mut steps, mut losses) = (Vec::new(), Vec::new());
    while let Some(input) = feed.next().unwrap() {
        let range = input.range();
        let ids = feed.on_host(&input).unwrap().bags.clone();
        steps.push((range.epoch, range.last_of_epoch, input.samples().len(), ids));
        engine.begin_step(input.samples(), StepContext::at_rate(0.05)).unwrap();
        feed.recycle(input);
        losses.extend(std::iter::from_fn(|| engine.finished(false).unwrap()));
    }
    losses.extend(std::iter::from_fn(|| engine.finished(true).unwrap()));
    assert_eq!(losses.len(), steps.len());
    let told = steps
        .into_iter()
        .zip(losses)
        .map(|((epoch, last, n, ids), end)| (epoch, last, n, ids, end.loss.to_bits()));
    let mut split = EvalSplit::new(eval, batch_size, workload::EvalCache::Auto);
    split.make_on_device(eval_generated);
    let quality = split.evaluate(engine, &AtomicBool::new(false));
    (told.collect(), quality.ok().unwrap())
}

/// The evaluation split predicted batch by batch, and judged here.
fn judged_here(engine: &mut dyn Engine, workload: &Workload) -> Quality {
    let mut eval = workload.open_data().unwrap().eval;
    let (mut predictions, mut labels) = (Vec::new(), Vec::new());
    for batch in loader::read_all(&mut *eval, workload.eval.batch_size).unwrap() {
        let at = predictions.len();
        predictions.resize(at + batch.len, 0.0);
        engine.predict(&batch, &mut predictions[at..]).unwrap();
        labels.extend_from_slice(&batch.labels);
    }
    metrics::quality(&predictions, &labels).unwrap()
}

#[test]
fn a_run_fed_by_the_device_is_the_run_fed_by_the_host() {
    let hot = [
        "data.preset=custom",
        "data.tables=[40, 3000, 7]",
        "data.hotness=[3, 1, 2]",
        "data.dense=5",
    ];
    for set in [&["data.max_rows=2000"][..], &hot, &["data.max_rows=50", "train.drop_last=true"]] {
        let workload = small(set);
        assert!(made_on_device(&workload));
        let config = config(&workload);
        for driver in devices() {
            let (mut host, mut device) = (engine(&driver, &config), engine(&driver, &config));
            let (want, got) = (run(&mut host, &workload, false), run(&mut device, &workload, true));
            assert_eq!(got, want, "{set:?}");
            assert!(
                want.0.len() >= 6 && want.0.iter().filter(|s| s.1).count() == 3,
                "{:?}",
                want.0
            );
            assert_eq!(judged_here(&mut device, &workload), got.1, "{set:?}");
            for (i, spec) in config.model.params().iter().enumerate() {
                let [mut a, mut b] = [vec![0.0f32; spec.len()], vec![0.0f32; spec.len()]];
                host.read(i, &mut a).unwrap();
                device.read(i, &mut b).unwrap();
                assert!(
                    a.iter().zip(&b).all(|(a, b)| a.to_bits() == b.to_bits()),
                    "{}: {set:?}",
                    spec.name
                );
            }
        }
    }
}

#[test]
fn what_the_device_cannot_make_is_refused_or_left_to_the_host() {
    let workload = small(&["data.max_rows=50"]);
    let config = config(&workload);
    let mut init = Initializer::new(&config.model, InitSource::Philox { seed: 5 });
    let mut cpu = FusedEngine::new(&config, &mut init).unwrap();
    let Dataset { train, eval, .. } = workload.open_data().unwrap();
    assert!(attach_generator(&mut cpu, [&*train, &*eval]).unwrap().iter().all(Option::is_none));
    assert!(!cpu.begin_scores(10).unwrap() && cpu.count_scores().is_err());
    let span = Samples::Generated(Span { split: 0, first: 0, len: 4 });
    let context = StepContext::at_rate(0.1);
    assert!(cpu.begin_step(span, context).unwrap_err().to_string().contains("not given"));
    let log = train.generated_split().unwrap().log;
    for driver in devices() {
        let mut gpu = engine(&driver, &config);
        assert!(gpu.begin_step(span, context).unwrap_err().to_string().contains("not given"));
        assert!(gpu.score(span).is_err());
        let mut wider = (*log).clone();
        wider.columns[3].values += 1;
        assert!(
            gpu.attach_generator(&wider)
                .unwrap_err()
                .to_string()
                .starts_with("batch does not fit the model: table 3")
        );
        wider.columns.pop();
        assert!(
            gpu.attach_generator(&wider)
                .unwrap_err()
                .to_string()
                .contains("25 categorical columns")
        );
        assert!(gpu.attach_generator(&log).unwrap());
        for len in [0, config.max_batch + 1] {
            let error = gpu
                .begin_step(Samples::Generated(Span { split: 0, first: 0, len }), context)
                .unwrap_err();
            assert!(error.to_string().contains("samples; the engine takes"), "{error}");
        }
        // More predictions than 2^30 are judged on the host; none were begun.
        assert!(!gpu.begin_scores((1 << 30) + 1).unwrap());
    }
    assert!(!made_on_device(&small(&["engine.kind=candle"])));
    assert!(!made_on_device(&small(&["model.trick=qr"])));
    assert!(!made_on_device(&small(&["loader.shards=2", "loader.shard=0"])));
}
