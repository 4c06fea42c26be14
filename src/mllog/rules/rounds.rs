//! Which tables a round is made of.

use super::{
    Division, InitLimit, Rule, Target,
    benchmarks::{
        DCNV2, DCNV2_OPEN_TARGET, DCNV2_TARGET, DEEPFM, DLRM, DLRM_OPEN_TARGET, DLRM_TARGET,
        DLRM_TENSOR_NAMES, DLRM_TENSORS, EVALUATION,
    },
    common::{
        ACCUMULATION, BLOCKS_BY_EPOCH, BLOCKS_BY_SAMPLES, BLOCKS_BY_STEP, EPOCHS_BY_EPOCH,
        EPOCHS_BY_SAMPLES, EVALS_BY_EPOCH, EVALS_BY_SAMPLES, EVALS_BY_STEP, EVENTS, OPTIONAL,
        STATUS, SUBMITTER,
    },
};

/// One round of MLPerf Training.
#[derive(Debug)]
pub struct Round {
    /// Its ruleset, as `--ruleset` names it.
    pub ruleset: &'static str,
    /// The benchmark of ours that is in it.
    pub benchmark: &'static str,
    /// Limit of initialisation.
    pub init: InitLimit,
    /// Rules for every log.
    common: &'static [&'static [Rule]],
    /// What the closed division adds.
    closed: &'static [&'static [Rule]],
    /// The closed division's target.
    closed_target: Option<Target>,
    /// The open division's target.
    open_target: Option<Target>,
    /// Tensors that the closed division wants initialised, each exactly once; empty = not looked
    /// at.
    tensors: &'static [&'static str],
}

const fn dlrm(
    ruleset: &'static str,
    init: InitLimit,
    closed: &'static [&'static [Rule]],
    open_target: Target,
    tensors: &'static [&'static str],
) -> Round {
    const COMMON: &[&[Rule]] =
        &[SUBMITTER, STATUS, EVENTS, BLOCKS_BY_EPOCH, EPOCHS_BY_EPOCH, EVALS_BY_EPOCH, EVALUATION];
    Round {
        ruleset,
        benchmark: "dlrm",
        init,
        common: COMMON,
        closed,
        closed_target: Some(DLRM_TARGET),
        open_target: Some(open_target),
        tensors,
    }
}

const fn dcnv2(ruleset: &'static str, common: &'static [&'static [Rule]]) -> Round {
    Round {
        ruleset,
        benchmark: "dlrm_dcnv2",
        init: InitLimit::ByDivision { closed: 30, open: 240 },
        common,
        closed: &[ACCUMULATION, DCNV2],
        closed_target: Some(DCNV2_TARGET),
        open_target: Some(DCNV2_OPEN_TARGET),
        tensors: &[],
    }
}

const LATER: InitLimit = InitLimit::ByDivision { closed: 30, open: 240 };
const WITH_TENSORS: &[&[Rule]] = &[ACCUMULATION, DLRM, DLRM_TENSORS];

/// All rounds, oldest first.
pub const ROUNDS: &[Round] = &[
    dlrm("0.7.0", InitLimit::Minutes(20), &[DLRM], DLRM_TARGET, &[]),
    dlrm("1.0.0", InitLimit::Minutes(30), &[ACCUMULATION, DLRM], DLRM_OPEN_TARGET, &[]),
    dlrm("1.1.0", InitLimit::Minutes(30), WITH_TENSORS, DLRM_OPEN_TARGET, DLRM_TENSOR_NAMES),
    dlrm("2.0.0", LATER, WITH_TENSORS, DLRM_OPEN_TARGET, DLRM_TENSOR_NAMES),
    dlrm("2.1.0", LATER, WITH_TENSORS, DLRM_OPEN_TARGET, DLRM_TENSOR_NAMES),
    dcnv2(
        "3.0.0",
        &[SUBMITTER, STATUS, EVENTS, BLOCKS_BY_EPOCH, EPOCHS_BY_EPOCH, EVALS_BY_EPOCH, EVALUATION],
    ),
    dcnv2(
        "3.1.0",
        &[SUBMITTER, STATUS, EVENTS, BLOCKS_BY_STEP, EPOCHS_BY_EPOCH, EVALS_BY_STEP, EVALUATION],
    ),
    dcnv2(
        "4.0.0",
        &[
            SUBMITTER,
            STATUS,
            EVENTS,
            BLOCKS_BY_SAMPLES,
            EPOCHS_BY_EPOCH,
            EVALS_BY_SAMPLES,
            EVALUATION,
        ],
    ),
    dcnv2(
        "4.1.0",
        &[SUBMITTER, EVENTS, BLOCKS_BY_SAMPLES, EPOCHS_BY_EPOCH, EVALS_BY_SAMPLES, EVALUATION],
    ),
    dcnv2("5.0.0", &[EVENTS, BLOCKS_BY_SAMPLES, EPOCHS_BY_SAMPLES, EVALS_BY_SAMPLES, EVALUATION]),
    dcnv2(
        "5.1.0",
        &[SUBMITTER, EVENTS, BLOCKS_BY_SAMPLES, EPOCHS_BY_SAMPLES, EVALS_BY_SAMPLES, EVALUATION],
    ),
    dcnv2(
        "6.0.0",
        &[
            SUBMITTER,
            EVENTS,
            BLOCKS_BY_SAMPLES,
            EPOCHS_BY_SAMPLES,
            EVALS_BY_SAMPLES,
            EVALUATION,
            OPTIONAL,
        ],
    ),
];

/// Our own benchmark: no MLPerf round has it, and its rules are those of one file.
const DEEPFM_ROUND: Round = Round {
    ruleset: "6.0.0",
    benchmark: "deepfm",
    init: InitLimit::Minutes(240),
    common: &[DEEPFM],
    closed: &[],
    closed_target: None,
    open_target: None,
    tensors: &[],
};

/// All that is asked of one log.
#[derive(Debug)]
pub struct RuleSet {
    /// The rules, one a key.
    pub rules: Vec<&'static Rule>,
    /// What one evaluation must reach; `None` = no rule says, or the division is not known.
    pub target: Option<Target>,
    /// See [`Round`].
    pub tensors: &'static [&'static str],
    /// Limit of initialisation.
    pub init: InitLimit,
}

impl Round {
    /// The round in which a log of `benchmark` is judged: that of `ruleset`, or the newest that has
    /// the benchmark.
    ///
    /// # Errors
    /// A sentence that says which rulesets know the benchmark.
    pub fn of(benchmark: &str, ruleset: Option<&str>) -> Result<&'static Round, String> {
        const DEEPFM: &Round = &DEEPFM_ROUND;
        let having: Vec<&'static Round> = ROUNDS
            .iter()
            .chain(std::iter::once(DEEPFM))
            .filter(|r| r.benchmark == benchmark)
            .collect();
        let (Some(first), Some(last)) = (having.first(), having.last()) else {
            let what = format!(
                "is {benchmark:?}, which is not known here; must be one of dlrm, dlrm_dcnv2, deepfm"
            );
            return Err(what);
        };
        match ruleset {
            None => Ok(last),
            Some(r) => having.iter().find(|round| round.ruleset == r).copied().ok_or_else(|| {
                match first.ruleset {
                    one if one == last.ruleset => {
                        format!("is {benchmark:?}, which ruleset {r} does not have; {one} has it")
                    }
                    from => format!(
                        "is {benchmark:?}, which ruleset {r} does not have; {from} to {} have it",
                        last.ruleset
                    ),
                }
            }),
        }
    }

    /// The rules of a division; without one only those that all divisions share.
    pub fn rule_set(&'static self, division: Option<Division>) -> RuleSet {
        let closed = if division == Some(Division::Closed) { self.closed } else { &[] };
        let mut rules: Vec<&'static Rule> = Vec::new();
        for rule in self.common.iter().chain(closed).copied().flatten() {
            // What a benchmark asks of a key stands in for what is asked of every log.
            match rules.iter_mut().find(|r| r.key == rule.key) {
                Some(general) => *general = rule,
                None => rules.push(rule),
            }
        }
        RuleSet {
            rules,
            target: division.and_then(|d| match d {
                Division::Closed => self.closed_target,
                Division::Open => self.open_target,
            }),
            tensors: if division == Some(Division::Closed) { self.tensors } else { &[] },
            init: self.init,
        }
    }
}
