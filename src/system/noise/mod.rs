//! How far a machine can be trusted while it is measured on: a grade from A to F, and why.
//! docs/noise.md has the table of what gives which grade.

mod counters;

pub use counters::{Usage, UsageMeter};

use super::{Machine, linux, usable_cores};
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// How quiet a machine was. As in school there is no E.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Grade {
    /// Nothing was found.
    A,
    /// Something that costs a per cent at most, or is the same each time.
    B,
    /// Differences of some per cent say nothing.
    C,
    /// Differences of ten per cent say nothing.
    D,
    /// The machine was not this program's.
    F,
}

impl fmt::Display for Grade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl FromStr for Grade {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Grade::A, Grade::B, Grade::C, Grade::D, Grade::F]
            .into_iter()
            .find(|g| g.to_string().eq_ignore_ascii_case(text))
            .ok_or_else(|| "must be A, B, C, D or F".to_owned())
    }
}

/// Something that was looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// What.
    pub of: String,
    /// `None` where it cannot be known.
    pub grade: Option<Grade>,
    /// What was found, a clause.
    pub found: String,
    /// What would be better, a clause; empty if nothing is to be done.
    pub advice: String,
}

/// The grade of a machine over some time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Noise {
    /// The worst of all findings.
    pub grade: Grade,
    /// In a fixed order.
    pub findings: Vec<Finding>,
    /// What was measured; `None` if the time was too short.
    pub usage: Option<Usage>,
}

/// What a machine is like, whether or not anything runs on it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Setting {
    /// Threads that compute, where that is known.
    pub threads: Option<usize>,
    /// Whether each has a core of its own that it stays on.
    pub pinned: bool,
    /// Processors' worth of time that can be had at once.
    pub usable: usize,
    /// Cores without their hardware threads.
    pub physical: Option<usize>,
    /// Whether two hardware threads share a core.
    pub smt: Option<bool>,
    /// Frequency governor.
    pub governor: Option<String>,
    /// Linux' transparent huge pages.
    pub huge_pages: Option<String>,
    /// Clock that the system reads.
    pub clock: Option<String>,
    /// Memory nodes.
    pub nodes: Option<usize>,
}

impl Setting {
    /// That of this machine, for a computation by so many threads.
    pub fn of(machine: &Machine, threads: Option<usize>, pinned: bool) -> Self {
        Setting {
            threads,
            pinned,
            usable: usable_cores(),
            physical: machine.cpu.physical_cores,
            smt: machine.cpu.smt,
            governor: machine.cpu.governor.clone(),
            huge_pages: machine.transparent_huge_pages.clone(),
            clock: linux::line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            nodes: linux::line("/sys/devices/system/node/online").map(|l| linux::count(&l)),
        }
    }
}

/// Above these shares a thing is graded B, C, D and F.
const OTHERS: [f64; 4] = [0.01, 0.03, 0.10, 0.25];
const STOLEN: [f64; 4] = [0.005, 0.02, 0.05, 0.15];
const HELD_BACK: [f64; 4] = [0.001, 0.02, 0.10, 0.25];

fn grade(value: f64, [b, c, d, f]: [f64; 4]) -> Grade {
    match value {
        v if v > f => Grade::F,
        v if v > d => Grade::D,
        v if v > c => Grade::C,
        v if v > b => Grade::B,
        _ => Grade::A,
    }
}

impl Noise {
    /// Grades what was measured in a setting.
    pub fn judge(setting: &Setting, usage: Option<Usage>) -> Self {
        let findings: Vec<Finding> =
            [of_usage(usage.as_ref()), of_setting(setting)].into_iter().flatten().collect();
        let worst = findings.iter().filter_map(|f| f.grade).max();
        Noise { grade: worst.unwrap_or(Grade::A), findings, usage }
    }

    /// The findings that are worse than A, the worst first.
    pub fn reasons(&self) -> Vec<&Finding> {
        let mut all: Vec<_> =
            self.findings.iter().filter(|f| f.grade.is_some_and(|g| g > Grade::A)).collect();
        all.sort_by_key(|f| std::cmp::Reverse(f.grade));
        all
    }

    /// `D: others used 0.46 of 2 processors (23%)`, with the worst reasons.
    pub fn sentence(&self) -> String {
        let worst = |f: &&&Finding| f.grade == Some(self.grade);
        let reasons = self.reasons();
        let reasons: Vec<&str> = reasons.iter().filter(worst).map(|f| f.found.as_str()).collect();
        match reasons.is_empty() {
            true => self.grade.to_string(),
            false => format!("{}: {}", self.grade, reasons.join("; ")),
        }
    }
}

fn finding(of: &str, grade: Option<Grade>, found: String, advice: &str) -> Finding {
    let advice = if grade.is_some_and(|g| g > Grade::A) { advice } else { "" };
    Finding { of: of.to_owned(), grade, found, advice: advice.to_owned() }
}

fn percent(share: f64) -> String {
    format!("{:.1}%", 100.0 * share)
}

/// Of what was measured.
fn of_usage(usage: Option<&Usage>) -> Vec<Finding> {
    let unknown = |of: &str, found: &str| finding(of, None, found.to_owned(), "");
    let Some(u) = usage else {
        return vec![unknown("others", "was too short to measure what others do")];
    };
    let others = u.others.map(|others| {
        let (n, share) = (u.processors, others / u.processors as f64);
        let found = format!("others used {others:.2} of {n} processors ({})", percent(share));
        finding("others", Some(grade(share, OTHERS)), found, "end other programs, or wait for them")
    });
    let stolen = u.stolen.map(|share| {
        let found = format!("the hypervisor gave {} of the processors' time away", percent(share));
        let advice = "use a machine with processors of its own";
        finding("steal time", Some(grade(share, STOLEN)), found, advice)
    });
    let held_back = u.held_back.map(|share| {
        let found =
            format!("the control group held the process back {} of the time", percent(share));
        let advice = "raise the container's limit of processors, or use fewer threads";
        finding("quota", Some(grade(share, HELD_BACK)), found, advice)
    });
    let heat = u.too_hot.map(|times| {
        let found = format!("processors were slowed down for their heat {times} times");
        let grade = if times > 0 { Grade::C } else { Grade::A };
        finding("heat", Some(grade), found, "cool the machine, or lower its frequency")
    });
    vec![
        others.unwrap_or_else(|| unknown("others", "what others do is not known")),
        stolen.unwrap_or_else(|| unknown("steal time", "the system does not count steal time")),
        held_back.unwrap_or_else(|| unknown("quota", "no control group counts its limit")),
        heat.unwrap_or_else(|| {
            unknown("heat", "the processors do not count when they are too hot")
        }),
    ]
}

/// Of what the machine is like.
fn of_setting(s: &Setting) -> Vec<Finding> {
    let (a, b, c) = (Some(Grade::A), Some(Grade::B), Some(Grade::C));
    let known =
        |value: &Option<String>, of: &str, judge: &dyn Fn(&str) -> (Grade, &'static str)| {
            match value {
                None => finding(of, None, format!("the system does not tell its {of}"), ""),
                Some(value) => {
                    let (grade, advice) = judge(value);
                    finding(of, Some(grade), format!("{of}: {value}"), advice)
                }
            }
        };
    let mut all = Vec::new();
    if let Some(threads) = s.threads {
        let found = format!("{threads} threads on {} usable processors", s.usable);
        let grade = if threads > s.usable { Some(Grade::F) } else { a };
        all.push(finding("threads", grade, found, "use no more threads than processors"));
    }
    if let (Some(threads), Some(true), Some(physical)) = (s.threads, s.smt, s.physical) {
        let grade = if threads > physical { b } else { a };
        let found = format!("{threads} threads on {physical} cores of two hardware threads each");
        all.push(finding("hardware threads", grade, found, "use one thread a core"));
    }
    if let Some(nodes) = s.nodes.filter(|&nodes| nodes > 1) {
        let found = format!(
            "{nodes} memory nodes, threads {}",
            if s.pinned { "pinned" } else { "free to move" }
        );
        let grade = if s.pinned { b } else { c };
        all.push(finding(
            "memory nodes",
            grade,
            found,
            "pin threads (engine.pin_threads), or keep to one node (numactl)",
        ));
    }
    all.push(known(&s.governor, "frequency governor", &|governor| match governor {
        "performance" => (Grade::A, ""),
        "powersave" => (Grade::C, "set it to performance (cpupower frequency-set -g performance)"),
        _ => (Grade::B, "set it to performance (cpupower frequency-set -g performance)"),
    }));
    all.push(known(&s.huge_pages, "transparent huge pages", &|pages| match pages {
        "never" => (Grade::B, "set them to madvise: rows of large tables are found faster"),
        _ => (Grade::A, ""),
    }));
    all.push(known(&s.clock, "clock source", &|clock| match clock {
        "hpet" | "acpi_pm" | "jiffies" | "refined-jiffies" | "xen" => {
            (Grade::C, "use tsc: reading this one is slow")
        }
        _ => (Grade::A, ""),
    }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet() -> (Setting, Usage) {
        let word = |w: &str| Some(w.to_owned());
        let setting = Setting {
            threads: Some(4),
            pinned: false,
            usable: 8,
            physical: Some(4),
            smt: Some(true),
            governor: word("performance"),
            huge_pages: word("madvise"),
            clock: word("tsc"),
            nodes: Some(1),
        };
        let usage = Usage {
            seconds: 10.0,
            processors: 8,
            own: Some(4.0),
            others: Some(0.0),
            stolen: Some(0.0),
            held_back: Some(0.0),
            too_hot: Some(0),
        };
        (setting, usage)
    }

    #[test]
    fn each_thing_alone_gives_its_grade_and_the_worst_counts() {
        let (setting, usage) = quiet();
        let all_quiet = Noise::judge(&setting, Some(usage));
        assert_eq!((all_quiet.grade, all_quiet.sentence()), (Grade::A, "A".to_owned()));
        assert!(
            all_quiet.findings.iter().all(|f| f.grade == Some(Grade::A) && f.advice.is_empty())
        );
        type Change = fn(&mut Setting, &mut Usage);
        let cases: [(Change, Grade, &str); 17] = [
            (|_, u| u.others = Some(0.1), Grade::B, "others used 0.10 of 8 processors (1.2%)"),
            (|_, u| u.others = Some(0.4), Grade::C, "(5.0%)"),
            (|_, u| u.others = Some(1.0), Grade::D, "(12.5%)"),
            (|_, u| u.others = Some(4.0), Grade::F, "(50.0%)"),
            (|_, u| u.stolen = Some(0.01), Grade::B, "gave 1.0% of the processors' time away"),
            (|_, u| u.stolen = Some(0.2), Grade::F, "20.0%"),
            (|_, u| u.held_back = Some(0.05), Grade::C, "held the process back 5.0%"),
            (|_, u| u.too_hot = Some(3), Grade::C, "3 times"),
            (|s, _| s.threads = Some(9), Grade::F, "9 threads on 8 usable processors"),
            (|s, _| s.threads = Some(5), Grade::B, "5 threads on 4 cores"),
            (|s, _| s.nodes = Some(2), Grade::C, "2 memory nodes, threads free to move"),
            (
                |s, _| (s.nodes, s.pinned) = (Some(2), true),
                Grade::B,
                "2 memory nodes, threads pinned",
            ),
            (
                |s, _| s.governor = Some("powersave".into()),
                Grade::C,
                "frequency governor: powersave",
            ),
            (|s, _| s.governor = Some("schedutil".into()), Grade::B, "schedutil"),
            (|s, _| s.huge_pages = Some("never".into()), Grade::B, "huge pages: never"),
            (|s, _| s.clock = Some("hpet".into()), Grade::C, "clock source: hpet"),
            (
                |s, u| (s.clock, u.others) = (Some("hpet".into()), Some(1.0)),
                Grade::D,
                "others used 1.00",
            ),
        ];
        for (change, grade, told) in cases {
            let (mut setting, mut usage) = quiet();
            change(&mut setting, &mut usage);
            let noise = Noise::judge(&setting, Some(usage));
            assert_eq!(noise.grade, grade, "{told}");
            assert!(noise.sentence().contains(told), "{}", noise.sentence());
            assert!(!noise.reasons()[0].advice.is_empty(), "{told}");
            let json = serde_json::to_string(&noise).unwrap();
            assert_eq!(serde_json::from_str::<Noise>(&json).unwrap(), noise);
        }
    }

    #[test]
    fn what_cannot_be_known_is_said_and_does_not_count() {
        let setting = Setting { threads: Some(1), usable: 1, ..Setting::default() };
        for usage in [None, Some(Usage { seconds: 3.0, ..Usage::default() })] {
            let noise = Noise::judge(&setting, usage);
            assert_eq!(noise.grade, Grade::A);
            assert!(noise.findings.iter().filter(|f| f.grade.is_none()).count() >= 4);
            assert!(noise.reasons().is_empty());
        }
    }

    #[test]
    fn grades_are_letters() {
        for text in ["A", "b", "C", "d", "F"] {
            let grade: Grade = text.parse().unwrap();
            assert_eq!(grade.to_string(), text.to_uppercase());
        }
        assert!("E".parse::<Grade>().is_err() && "".parse::<Grade>().is_err());
        assert!(Grade::A < Grade::F);
    }
}
