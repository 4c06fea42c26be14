//! The description of a system, as MLPerf's system_desc_checker wants it: 33 fields, all of them
//! strings.

use super::Options;
use crate::{mllog::rules::Division, results::RunRecord};
use serde::{Serialize, Serializer};

/// All fields, in the order of MLPerf's template.
pub const FIELDS: [&str; 33] = [
    "submitter",
    "division",
    "status",
    "system_name",
    "number_of_nodes",
    "host_processors_per_node",
    "host_processor_model_name",
    "host_processor_core_count",
    "host_processor_vcpu_count",
    "host_processor_frequency",
    "host_processor_caches",
    "host_processor_interconnect",
    "host_memory_capacity",
    "host_storage_type",
    "host_storage_capacity",
    "host_networking",
    "host_networking_topology",
    "host_memory_configuration",
    "accelerators_per_node",
    "accelerator_model_name",
    "accelerator_host_interconnect",
    "accelerator_frequency",
    "accelerator_on-chip_memories",
    "accelerator_memory_configuration",
    "accelerator_memory_capacity",
    "accelerator_interconnect",
    "accelerator_interconnect_topology",
    "cooling",
    "hw_notes",
    "framework",
    "other_software_stack",
    "operating_system",
    "sw_notes",
];

/// A description: a value for each of [`FIELDS`], empty where nothing is known.
#[derive(Debug)]
pub(super) struct Description {
    /// Its division; the checkers skip tests if it is not spelt in lower case.
    pub division: Division,
    values: [String; 33],
}

impl Description {
    /// From the record of a run, and what the user knows better.
    pub fn of(record: &RunRecord, options: &Options, division: Division, status: &str) -> Self {
        let value = |field: &str| match options.fields.get(field) {
            Some(value) => value.clone(),
            None => found(field, record, options, division, status).unwrap_or_default(),
        };
        Description { division, values: FIELDS.map(value) }
    }

    /// Fields of which nothing is known.
    pub fn empty(&self) -> Vec<&'static str> {
        FIELDS
            .into_iter()
            .zip(&self.values)
            .filter(|(_, v)| v.is_empty())
            .map(|(field, _)| field)
            .collect()
    }
}

impl Serialize for Description {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(FIELDS.iter().zip(&self.values))
    }
}

/// What the record says of a field.
fn found(
    field: &str,
    record: &RunRecord,
    options: &Options,
    division: Division,
    status: &str,
) -> Option<String> {
    let (machine, cpu, versions) = (&record.machine, &record.machine.cpu, &record.versions);
    let text = match field {
        "submitter" => options.org.clone(),
        "division" => division.name().into(),
        "status" => status.into(),
        "system_name" => record.system.clone(),
        "number_of_nodes" => machine.hosts().to_string(),
        // Nobody counted sockets; MLPerf's summarizer needs a number.
        "host_processors_per_node" => "1".into(),
        "host_processor_model_name" => cpu.model.clone(),
        "host_processor_core_count" => cpu.physical_cores?.to_string(),
        "host_processor_vcpu_count" => cpu.logical_cores.to_string(),
        "host_processor_frequency" => format!("{} MHz", cpu.frequency_mhz?),
        "host_processor_caches" => cpu
            .caches
            .iter()
            .map(|c| format!("{} {} KiB", c.name, c.size / 1024))
            .collect::<Vec<_>>()
            .join(", "),
        "host_memory_capacity" => {
            format!("{:.1} GiB", machine.memory? as f64 / (1u64 << 30) as f64)
        }
        "accelerators_per_node" => u8::from(machine.gpu.is_some()).to_string(),
        "accelerator_model_name" => {
            machine.gpu.as_ref().map_or("N/A".into(), |gpu| gpu.name.clone())
        }
        "accelerator_frequency" => match &machine.gpu {
            Some(gpu) if gpu.clock_mhz == 0 => return None,
            gpu => gpu.as_ref().map_or("N/A".into(), |gpu| format!("{} MHz", gpu.clock_mhz)),
        },
        "accelerator_on-chip_memories" => match &machine.gpu {
            Some(gpu) if gpu.cache == 0 => return None,
            gpu => gpu.as_ref().map_or("N/A".into(), |gpu| format!("L2 {} MiB", gpu.cache >> 20)),
        },
        "accelerator_memory_capacity" => machine.gpu.as_ref().map_or("N/A".into(), |gpu| {
            format!("{:.1} GiB", gpu.memory as f64 / (1u64 << 30) as f64)
        }),
        "hw_notes" => notes([
            (machine.virtual_machine == Some(true)).then(|| "a virtual machine".to_owned()),
            cpu.quota.map(|q| format!("limited to {q:.2} processors' worth of time")),
            machine
                .memory_limit
                .map(|m| format!("limited to {:.1} GiB", m as f64 / (1u64 << 30) as f64)),
        ]),
        "framework" => format!("dlrm-bench {}", versions.dlrm_bench),
        "other_software_stack" => notes([
            versions.rustc.clone(),
            versions.candle.as_ref().map(|v| format!("candle-core {v}")),
            machine.gpu.as_ref().map(|gpu| format!("CUDA {}", gpu.driver)),
        ]),
        "operating_system" => {
            notes([machine.os.clone(), machine.kernel.as_ref().map(|k| format!("kernel {k}"))])
        }
        "sw_notes" => {
            let engine = &record.engine;
            format!("{} engine, {} threads, {}", engine.kind, engine.threads, engine.precision)
        }
        _ => return None,
    };
    Some(text)
}

fn notes<const N: usize>(notes: [Option<String>; N]) -> String {
    notes.into_iter().flatten().collect::<Vec<_>>().join("; ")
}
