//! Where a run takes its training samples from: a loader's thread, or the device, which makes them
//! itself.

use crate::{
    backend::Device,
    batch::{Batch, GeneratedSplit, Samples, Span},
    data::{
        DataError, Source,
        loader::{Loaded, Loader, Plan},
        ranges::{Range, Ranges},
    },
    engine::EngineKind,
    engine::{Engine, EngineError},
    workload::{DataConfig, ModelConfig, Workload},
};
use std::sync::Arc;

#[cfg(all(test, target_os = "linux"))]
mod tests;

/// The source of batches.
pub(super) enum Feed {
    /// Batches in the host's memory, made ahead of their use.
    Loader(Loader),
    /// The numbers of samples.
    Device { source: Box<dyn Source>, generated: GeneratedSplit, ranges: Ranges, made: Batch },
}

/// A feed of which the next samples may be looked at.
pub(super) struct Ahead {
    feed: Feed,
    next: Option<Result<Option<StepInput>, DataError>>,
}

impl Ahead {
    pub fn of(feed: Feed) -> Self {
        Ahead { feed, next: None }
    }

    /// The samples of the step after the next one; `None` after the last one, or if they cannot be
    /// had, which their step will tell.
    pub fn peek(&mut self) -> Option<&StepInput> {
        let feed = &mut self.feed;
        self.next.get_or_insert_with(|| feed.next()).as_ref().ok()?.as_ref()
    }

    /// As [`Feed::next`].
    pub fn next(&mut self) -> Result<Option<StepInput>, DataError> {
        self.next.take().unwrap_or_else(|| self.feed.next())
    }

    /// As [`Feed::on_host`].
    pub fn on_host<'a>(&'a mut self, input: &'a StepInput) -> Result<&'a Batch, DataError> {
        self.feed.on_host(input)
    }

    /// As [`Feed::recycle`].
    pub fn recycle(&mut self, input: StepInput) {
        self.feed.recycle(input);
    }

    /// As [`Feed::stop`].
    pub fn stop(self) -> Option<Box<dyn Source>> {
        self.feed.stop()
    }
}

/// The samples of a step.
pub(super) enum StepInput {
    Loaded(Loaded),
    Generated { range: Range, span: Span },
}

/// Lets the device make the samples of some splits itself, where it does that: how it makes each,
/// or nothing.
///
/// # Errors
/// If the samples do not fit the model, or the device fails.
pub(super) fn attach_generator(
    engine: &mut dyn Engine,
    splits: [&dyn Source; 2],
) -> Result<[Option<GeneratedSplit>; 2], EngineError> {
    let generated = splits.map(Source::generated_split);
    let Some(log) = generated.iter().flatten().next().map(|split| Arc::clone(&split.log)) else {
        return Ok([None, None]);
    };
    if !engine.attach_generator(&log)? {
        return Ok([None, None]);
    }
    Ok(generated.map(|split| split.filter(|s| Arc::ptr_eq(&s.log, &log))))
}

/// Whether training samples of this workload are made by the device on which it is computed.
pub fn made_on_device(workload: &Workload) -> bool {
    let (data, engine) = (&workload.data, &workload.engine);
    let numbered = matches!(data, DataConfig::Planted(_)) && workload.loader.shards.is_none();
    // Which rows a step touches is known of samples that the host has.
    let followed = workload.checkpoint.incremental == Some(true);
    // What becomes of ids is computed on the host.
    let plain = !matches!(&workload.model, ModelConfig::Dlrm { trick, .. } if !trick.is_none());
    let fused = engine.kind == EngineKind::Fused;
    let plain = plain && workload.embedding.is_resident();
    numbered && plain && fused && !followed && matches!(engine.device, Device::Cuda(_))
}

impl Feed {
    /// Begins with the first batch of `plan`; the device makes it if `generated` says how.
    pub fn start(
        source: Box<dyn Source>,
        plan: Plan,
        generated: Option<GeneratedSplit>,
    ) -> Result<Self, DataError> {
        match generated {
            Some(generated) => {
                let ranges = Ranges::new(source.len(), plan);
                let made = Batch::with_capacity(source.schema(), 0);
                Ok(Feed::Device { source, generated, ranges, made })
            }
            None => Ok(Feed::Loader(Loader::start(source, plan)?)),
        }
    }

    /// The samples of the next step; `None` after the last one.
    pub fn next(&mut self) -> Result<Option<StepInput>, DataError> {
        match self {
            Feed::Loader(loader) => Ok(loader.next_batch()?.map(StepInput::Loaded)),
            Feed::Device { generated, ranges, .. } => Ok(ranges.take()?.map(|range| {
                let span = generated.span(range.epoch, range.start, range.n);
                StepInput::Generated { range, span }
            })),
        }
    }

    /// The samples of a step in the host's memory, where they are made once more if need be.
    pub fn on_host<'a>(&'a mut self, input: &'a StepInput) -> Result<&'a Batch, DataError> {
        match (self, input) {
            (_, StepInput::Loaded(loaded)) => Ok(&loaded.batch),
            (Feed::Device { source, made, .. }, StepInput::Generated { range, .. }) => {
                source.fill(range.epoch, range.start, range.n, made)?;
                Ok(made)
            }
            (Feed::Loader(_), StepInput::Generated { .. }) => {
                unreachable!("a loader's samples are loaded")
            }
        }
    }

    /// Ends, and gives the source back, if it is still there.
    pub fn stop(self) -> Option<Box<dyn Source>> {
        match self {
            Feed::Loader(loader) => loader.stop(),
            Feed::Device { source, .. } => Some(source),
        }
    }

    /// Returns the samples of a step that has begun, for reuse.
    pub fn recycle(&mut self, input: StepInput) {
        if let (Feed::Loader(loader), StepInput::Loaded(loaded)) = (self, input) {
            loader.recycle(loaded);
        }
    }
}

impl StepInput {
    /// Which samples.
    pub fn range(&self) -> Range {
        match self {
            StepInput::Loaded(loaded) => loaded.range,
            StepInput::Generated { range, .. } => *range,
        }
    }

    pub fn samples(&self) -> Samples<'_> {
        match self {
            StepInput::Loaded(loaded) => Samples::Host(&loaded.batch),
            StepInput::Generated { span, .. } => Samples::Generated(*span),
        }
    }
}
