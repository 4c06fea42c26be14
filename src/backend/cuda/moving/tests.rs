//! Rows that come and go, against rows that are read and set one tensor at a time.

use super::*;
use crate::{
    backend::{
        Backend, Precision, RowsOf, TableState, TablesShape,
        cuda::{Cuda, CudaConfig, testing::devices},
    },
    embedding::RowKind,
    model::Pooling,
    optim::{Adagrad, OptimizerSpec},
};

const ROWS: [usize; 2] = [300, 170];

/// What there is for each row of the two tables, and its width.
fn tensors(dim: usize) -> Vec<(RowsOf, usize)> {
    let state = |table, of_weights| RowsOf::State(TableState { table, of_weights, buffer: 0 });
    let of = |k| {
        [
            (RowsOf::Values(k), dim),
            (RowsOf::Weights(k), 1),
            (state(k, false), dim),
            (state(k, true), 1),
        ]
    };
    [of(0), of(1)].concat()
}

/// Values that any form of a row keeps, others for each `turn`.
fn values(n: usize, turn: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7 + turn * 13) % 64) as f32 * 0.25).collect()
}

/// Far more rows than a room has place for, in any form, with rows that stay as they are: what comes is
/// there, and what goes is as it was before what came after it was asked for.
#[test]
fn rows_come_and_go_in_the_order_in_which_they_are_asked_for() {
    for (driver, kind) in devices().iter().flat_map(|d| RowKind::ALL.map(|kind| (d, kind))) {
        let config = CudaConfig {
            threads: 1,
            pin_threads: false,
            precision: Precision::Fp32,
            graphs: false,
        };
        let mut b = Cuda::on(Rc::clone(driver), &config).unwrap();
        let rule = Adagrad { eps: 1e-10, initial_accumulator: 0.5, lr_decay: 0.0 };
        let shape = TablesShape {
            rows: &ROWS,
            dim: 6,
            column: 0,
            kind,
            first: 0,
            pooling: Pooling::WeightedLearned,
            rule: OptimizerSpec::Adagrad(rule),
        };
        let mut tables = [b.tables(&shape).unwrap()];
        // All but each third, from the last on.
        let some = |k: usize| (0..ROWS[k] as u32).rev().filter(|r| r % 3 > 0).collect::<Vec<_>>();
        let numbers = [some(0), some(1)];
        let of = |of: RowsOf| match of {
            RowsOf::Values(k) | RowsOf::Weights(k) => k,
            RowsOf::State(s) => s.table,
        };
        let all = tensors(6);
        let moved: Vec<MovedRows<'_>> = all
            .iter()
            .map(|&(what, _)| MovedRows { set: 0, of: what, numbers: &numbers[of(what)] })
            .collect();
        let came = |turn: usize| {
            let of = moved.iter().zip(&all);
            of.map(|(rows, (_, width))| values(rows.numbers.len() * width, turn))
                .collect::<Vec<_>>()
        };
        let bring = |b: &mut Cuda, tables: &mut [Tables], turn: usize| {
            let values = came(turn);
            let pieces: Vec<_> = moved.iter().zip(&values).map(|(r, v)| (*r, &v[..])).collect();
            b.move_in(tables, &pieces).unwrap();
        };
        let words: usize = came(0).iter().map(Vec::len).sum();
        assert!(words > 2 * WORDS, "{words}");
        let mut out = vec![9.0];
        for turn in 0..3 {
            bring(&mut b, &mut tables, turn);
            assert!(b.begin_moving_out(&tables, &moved).unwrap());
            bring(&mut b, &mut tables, turn + 50);
            b.moved_out(&mut out).unwrap();
            assert_eq!(out, came(turn).concat(), "{kind:?}");
            for ((&(what, width), rows), want) in all.iter().zip(&moved).zip(came(turn + 50)) {
                let mut read = vec![0.0; rows.numbers.len() * width];
                b.read_rows(&tables[0], what, rows.numbers, &mut read).unwrap();
                assert_eq!(read, want, "{kind:?} {what:?}");
                let mut other = vec![0.0; width];
                b.read_rows(&tables[0], what, &[3], &mut other).unwrap();
                let start = match what {
                    RowsOf::Values(_) => 0.0,
                    RowsOf::Weights(_) => 1.0,
                    RowsOf::State(_) => 0.5,
                };
                assert!(other.iter().all(|&x| x == start), "{what:?} {other:?}");
            }
        }
        // Of none there is none.
        b.begin_moving_out(&tables, &[]).unwrap();
        b.moved_out(&mut out).unwrap();
        assert!(out.is_empty());
    }
}
