//! The settings of recipes as flags.

use super::super::whole;
use crate::data::preprocess::prepare::{
    Parameters, PrepareError, Recipe,
    settings::{Kind, SETTINGS, Setting},
};
use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser, ValueParser},
};
use serde_json::Value;

/// Settings that were given, with their values.
#[derive(Debug, Clone, Default)]
pub struct SettingArgs(Vec<(&'static Setting, Value)>);

impl SettingArgs {
    /// The recipe's parameters with what was given in their place.
    ///
    /// # Errors
    /// If a setting is not the recipe's, or has no such value.
    pub fn parameters(&self, recipe: Recipe) -> Result<Parameters, PrepareError> {
        if let Some((setting, _)) = self.0.iter().find(|(s, _)| !recipe.takes().contains(&s.name)) {
            return Err(PrepareError::foreign(recipe, setting.name));
        }
        let mut parameters = recipe.parameters();
        for (setting, value) in &self.0 {
            let put = setting.put(&mut parameters, value.clone());
            put.map_err(|what| PrepareError::Usage(format!("--{} {what}", setting.flag())))?;
        }
        Ok(parameters)
    }
}

impl Args for SettingArgs {
    fn augment_args(command: Command) -> Command {
        SETTINGS.iter().fold(command, |command, setting| command.arg(flag(setting)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut given = SettingArgs::default();
        given.update_from_arg_matches(matches)?;
        Ok(given)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for setting in &SETTINGS {
            let Some(values) = matches.get_many::<Value>(setting.name) else { continue };
            let values: Vec<Value> = values.cloned().collect();
            let value = match setting.kind {
                Kind::PerTable => values.into(),
                // The last one counts, of one.
                _ => values.into_iter().next_back().unwrap_or_default(),
            };
            self.0.retain(|(known, _)| known.name != setting.name);
            self.0.push((setting, value));
        }
        Ok(())
    }
}

/// The flag of a setting.
fn flag(setting: &'static Setting) -> Arg {
    let arg = Arg::new(setting.name)
        .long(&*setting.flag().leak())
        .value_name(setting.value)
        .allow_negative_numbers(true)
        .value_parser(parser(setting.kind))
        .help(format!("{} [default: {}]", setting.says, setting.default));
    match setting.kind {
        Kind::PerTable => arg.value_delimiter(',').action(ArgAction::Append),
        _ => arg,
    }
}

fn parser(kind: Kind) -> ValueParser {
    match kind {
        Kind::Count(most) => ValueParser::new(move |text: &str| {
            let n = text.parse::<u64>().ok().filter(|&n| n <= most);
            n.map(Value::from).ok_or_else(|| format!("must be a whole number from 0 to {most}"))
        }),
        Kind::Share => ValueParser::new(|text: &str| {
            let share = text.parse::<f64>().ok().filter(|x| x.is_finite());
            share.map(Value::from).ok_or_else(|| "must be a number".to_owned())
        }),
        Kind::Word(words) => PossibleValuesParser::new(
            words.iter().map(|(word, means)| PossibleValue::new(word).help(means)),
        )
        .map(Value::from)
        .into(),
        Kind::PerTable => ValueParser::new(|text: &str| {
            whole::<u32, 0, { u32::MAX as u64 }>(text).map(Value::from)
        }),
    }
}
