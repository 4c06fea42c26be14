//! What facebookresearch/dlrm printed, as numbers.

/// One reference run.
#[derive(Debug, Default)]
pub struct Transcript {
    /// The loss of each iteration.
    pub losses: Vec<f64>,
    /// The numbers of each test line: recall, precision, f1, ap, auc, accuracy (a share).
    pub tests: Vec<[f64; 6]>,
    /// All initial parameters in the order of printing: tables, then weight and bias of each layer,
    /// bottom before top.
    pub initial: Vec<f64>,
    /// The same after the last update.
    pub updated: Vec<f64>,
}

impl Transcript {
    /// Reads the program's output.
    pub fn parse(text: &str) -> Self {
        let mut t = Transcript::default();
        // Which parameters the lines at hand belong to.
        let mut block = None;
        for line in text.lines() {
            if let Some((_, loss)) = line.split_once("ms/it, loss ") {
                block = None;
                t.losses.push(loss.trim().parse().unwrap());
            } else if line.starts_with("recall ") {
                let value = |name: &str| -> f64 {
                    let field = line.split(", ").find_map(|f| f.strip_prefix(name)).unwrap();
                    field.trim_end_matches(" %").parse().unwrap()
                };
                let names = ["recall ", "precision ", "f1 ", "ap ", "auc ", "accuracy "];
                let mut test = names.map(value);
                test[5] /= 100.0;
                t.tests.push(test);
            } else if line.ends_with("parameters (weights and bias):") {
                block =
                    Some(if line.starts_with("initial") { &mut t.initial } else { &mut t.updated });
            } else if let Some(numbers) = &mut block {
                numbers.extend(
                    line.split(['[', ']', ' '])
                        .filter(|w| !w.is_empty())
                        .map(|w| w.parse::<f64>().unwrap()),
                );
            }
        }
        t
    }
}
