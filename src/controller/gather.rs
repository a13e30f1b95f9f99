//! Gathering: what the stores answered, in two rounds, becomes what each entry of a plan found.
//!
//! Answers enter; either further questions leave (members of a listing that came without their values, and, of what is missing,
//! whether it is gone), or what every entry found. Pure: no I/O; the clock stays with the verdicts on absences. What a provider does
//! not allow goes no further, whatever a store answers. Nothing counts as gone because it was not mentioned.

use std::{collections::HashMap, sync::Arc};

use super::{
    compose,
    plan::{Entry, Makes, Plan, Planned},
    providers::{Admitted, answered_otherwise, not_allowed},
    served::{self, Previous, Served},
};
use crate::{
    api::{
        Reason,
        reference::{Reference, Source},
        robotosecret::{DeletionPolicy, ProviderRef},
    },
    provider::{Found, Question, ReadError, Reading, Value, search::Search},
    reader::{Answer, Held},
    render::naming::Naming,
};

/// A question of the second round.
#[derive(Clone, Debug)]
pub struct Need {
    /// The question of the plan that it comes from, whose provider answers it.
    pub of: usize,
    /// What to ask.
    pub question: Question,
}

/// How an absence is to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is proven.
    Proven,
    /// Not yet; why.
    Waiting(String),
}

/// An answer of the first round.
#[derive(Debug)]
enum Heard<'h> {
    Value(&'h Arc<Held>, &'h [String]),
    Listing(&'h [Found]),
    /// It is not there, which may come to mean something.
    Absent(ReadError),
}

/// A member of a listing, or what one was.
struct Member<'g> {
    name: String,
    source: Source,
    /// Its reading, where the listing brought it.
    reading: Option<&'g Reading>,
}

/// What every entry found, ready to be composed.
#[derive(Debug, Default)]
pub(super) struct Gathered<'g> {
    /// In the order of the plan's entries.
    pub(super) found: Vec<FoundFor<'g>>,
    /// Everything that was read, each once.
    pub(super) sources: Vec<Served>,
    /// What is gone for certain, and stays known for being gone.
    pub(super) gone: Vec<Served>,
    /// Something is mirrored that its listing does not have any more: it is looked at again.
    pub(super) relook: bool,
}

pub(super) type FoundFor<'g> = compose::Found<'g>;

/// The circumstances of a gathering.
pub(super) struct Gathering<'g> {
    pub(super) plan: &'g Plan,
    pub(super) admitted: &'g [Admitted],
    pub(super) namespace: &'g str,
    pub(super) previous: &'g [Previous],
    /// Whether what was found before was found by these very searches. If not, what they don't find now is not theirs to keep.
    pub(super) searched: bool,
    /// The resource's own provider.
    pub(super) provider: &'g ProviderRef,
}

impl<'g> Gathering<'g> {
    /// What remains to be asked after the first round, whose answers are given in order. Any failure fails the whole; a lasting one is
    /// told before a passing one.
    pub(super) fn needs(&self, first: &'g [Answer]) -> Result<Vec<Need>, ReadError> {
        let heard = self.hear(first)?;
        let mut needs: Vec<Need> = Vec::new();
        let mut need = |of: usize, question: Question| {
            let scope = self.admitted[of].through.scope;
            if !needs.iter().any(|known| self.admitted[known.of].through.scope == scope && known.question == question) {
                needs.push(Need { of, question });
            }
        };
        for entry in &self.plan.entries {
            let of = entry.question;
            match (&heard[of], &entry.makes) {
                (Heard::Listing(listed), Makes::Listed { search, naming }) => {
                    for member in self.members(of, listed, search, naming).filter(|member| member.reading.is_none()) {
                        need(of, Question::Value(member.source));
                    }
                    for (source, served) in self.missing(of, listed, search, naming) {
                        need(of, presence(&source, &served.version.arn));
                    }
                }
                (Heard::Absent(_), _) => {
                    // What was proven once and is still not there needs no further proof.
                    if let Some((source, _, arn)) = self.mirrored(&self.plan.questions[of]).filter(|(_, previous, _)| !previous.gone) {
                        need(of, presence(source, arn));
                    }
                }
                _ => {}
            }
        }
        Ok(needs)
    }

    /// What every entry found. `second` are the answers to [`Gathering::needs`]. `judge` tells how the absence of a reference is to be
    /// taken, whether it is gone (or, else, merely not listed any more), through the provider of that question; it is told as well of
    /// what is there.
    pub(super) fn gather(
        &self,
        first: &'g [Answer],
        second: &'g [(Need, Answer)],
        judge: impl FnMut(usize, &Source, Sight) -> Verdict,
    ) -> Result<Gathered<'g>, ReadError> {
        let heard = self.hear(first)?;
        let answers = second.iter().map(|(need, answer)| ((self.place(need.of), &need.question), answer)).collect();
        let mut sorting = Sorting { of: self, answers, judge, gathered: Gathered::default(), errors: Vec::new() };
        for entry in &self.plan.entries {
            let found = match (&heard[entry.question], &entry.makes) {
                (Heard::Value(held, inner), _) => sorting.value(entry.question, held, inner),
                (Heard::Absent(error), _) => sorting.absent(entry.question, error),
                (Heard::Listing(listed), Makes::Listed { search, naming }) => sorting.listed(entry, listed, search, naming),
                (Heard::Listing(_), _) => {
                    sorting.fail(ReadError::new(Reason::InternalError, format!("{}: a listing was answered where a value was asked for", entry.field)))
                }
            };
            sorting.gathered.found.push(found);
        }
        let Sorting { gathered, mut errors, .. } = sorting;
        if let ([gone, ..], [_, ..], DeletionPolicy::Delete) = (&*gathered.gone, &*gathered.sources, self.plan.deletion) {
            let message = format!("{}: gone from the store; the Secret is deleted once all of its sources are gone, and stays as it is until then", gone.uri);
            errors.push(ReadError::new(Reason::SourceNotFound, message));
        }
        worst(errors).map_or(Ok(gathered), Err)
    }

    /// Each answer of the first round, by question.
    fn hear(&self, first: &'g [Answer]) -> Result<Vec<Heard<'g>>, ReadError> {
        let mut rest = first;
        let mut heard = Vec::with_capacity(self.admitted.len());
        let mut errors = Vec::new();
        for (of, (planned, admitted)) in self.plan.questions.iter().zip(self.admitted).enumerate() {
            let (mine, others) = rest.split_at(admitted.candidates.len().min(rest.len()));
            rest = others;
            let is_absent = |answer: &&Answer| answer.as_ref().is_err_and(|error| error.reason == Reason::SourceNotFound);
            let found = mine.iter().zip(&admitted.candidates).find(|(answer, _)| !is_absent(answer));
            match found.or_else(|| mine.iter().zip(&admitted.candidates).next()) {
                Some((Ok(held), (_, keypath))) => match &held.reading().value {
                    Value::List(listed) => heard.push(Heard::Listing(listed)),
                    Value::Text(_) | Value::Binary(_) if self.may_read(of, &held.reading().denotes) => heard.push(Heard::Value(held, keypath)),
                    // That name is not told: what the provider doesn't allow is not the reader's to know.
                    Value::Text(_) | Value::Binary(_) => errors.push(answered_otherwise(&planned.provider, self.namespace, &planned.question.to_string())),
                },
                Some((Err(_), _)) if found.is_none() && mine.len() > 1 => {
                    let message = format!("{}: Secrets Manager has none of the secrets that this path may name", planned.question);
                    errors.push(ReadError::new(Reason::SourceNotFound, message));
                }
                Some((Err(error), _)) if error.reason == Reason::SourceNotFound && self.plan.deletion != DeletionPolicy::Retain => {
                    heard.push(Heard::Absent(error.clone()));
                }
                Some((Err(error), _)) => errors.push(error.clone()),
                None => errors.push(ReadError::new(Reason::InternalError, format!("{}: the reader gave no answer", planned.question))),
            }
        }
        worst(errors).map_or(Ok(heard), Err)
    }

    /// Those of a listing that the entry takes and the provider allows.
    fn members(&self, of: usize, listed: &'g [Found], search: &Search, naming: &Naming) -> impl Iterator<Item = Member<'g>> {
        listed.iter().filter_map(move |found| {
            let name = search.name_of(&found.source).filter(|name| !naming.excludes(name))?;
            let allowed = self.may_read(of, &found.source.denotes());
            allowed.then(|| Member { name, source: found.source.clone(), reading: found.reading.as_ref() })
        })
    }

    /// What the entry would have found before, and the listing does not have: each with what it was.
    fn missing(&self, of: usize, listed: &[Found], search: &Search, naming: &Naming) -> Vec<(Source, &'g Served)> {
        let planned = &self.plan.questions[of];
        let previous = self.previous.iter().filter(|previous| self.searched && !previous.gone && self.is_of(previous, planned, search));
        let sources = previous.filter_map(|previous| Some((plain(&previous.served.uri)?, &previous.served)));
        sources
            .filter(|(source, served)| {
                let excluded = search.name_of(source).is_none_or(|name| naming.excludes(&name));
                let asked = self.plan.questions.iter().any(|other| other.provider == planned.provider && other.question == Question::Value(source.clone()));
                !excluded
                    && !asked
                    && !served.version.arn.is_empty()
                    && !listed.iter().any(|found| found.source == *source)
                    && self.may_read(of, &source.denotes())
            })
            .collect()
    }

    /// What the entry found before and the provider does not allow any more. Its key is not taken out for that: it would go unseen.
    fn revoked(&self, of: usize, listed: &[Found], search: &Search, naming: &Naming) -> Option<String> {
        let planned = &self.plan.questions[of];
        let previous = self.previous.iter().filter(|previous| !previous.gone && self.is_of(previous, planned, search));
        let revoked = |source: &Source| {
            search.name_of(source).is_some_and(|name| !naming.excludes(&name))
                && !self.may_read(of, &source.denotes())
                && (self.searched || listed.iter().any(|found| found.source == *source))
        };
        previous.filter_map(|previous| plain(&previous.served.uri)).find(revoked).map(|source| source.to_string())
    }

    fn is_of(&self, previous: &Previous, planned: &Planned, search: &Search) -> bool {
        previous.served.provider == planned.foreign(self.provider) && plain(&previous.served.uri).is_some_and(|source| search.name_of(&source).is_some())
    }

    /// The source of a question that was mirrored before, what it was, and its ARN. A version has no absence that counts, and nothing has
    /// whose ARN nobody knows: the tags of a parameter don't tell it, its value does.
    fn mirrored<'p>(&self, planned: &'p Planned) -> Option<(&'p Source, &'g Previous, &'g str)> {
        let (Question::Value(source) | Question::Tags(source)) = &planned.question else { return None };
        let find = |uri: &str| served::find(self.previous, uri, planned.foreign(self.provider).as_deref());
        let previous = find(&planned.question.to_string())?;
        let arns = [Some(previous), find(&source.to_string())].into_iter().flatten().map(|previous| previous.served.version.arn.as_str());
        // In the stores that are not AWS's an address stands for it. A name has no colon.
        let arn = arns.into_iter().find(|arn| arn.contains(':'))?;
        (source.version.is_none() && source.through_secrets_manager().is_empty()).then_some((source, previous, arn))
    }

    /// What a reading comes to; an error if it is older than what is mirrored.
    fn served(&self, planned: &Planned, question: &Question, reading: &Reading) -> Result<Served, ReadError> {
        let (uri, provider) = (question.to_string(), planned.foreign(self.provider));
        let before = served::find(self.previous, &uri, provider.as_deref()).map(|previous| &previous.served.version);
        let served = Served { record: reading.record.clone(), ..Served::new(uri, provider, &reading.version, before) };
        if served.lags_behind(before) {
            let region = served.region.unwrap_or_default();
            let message = format!("{question}: the provider's region is unavailable, and {region} has an older version than is mirrored");
            return Err(ReadError::new(Reason::ProviderUnavailable, message));
        }
        Ok(served)
    }

    /// Questions of one scope share their answers.
    fn place(&self, of: usize) -> usize {
        let scope = self.admitted[of].through.scope;
        self.admitted.iter().position(|admitted| admitted.through.scope == scope).unwrap_or(of)
    }

    fn may_read(&self, of: usize, references: &[String]) -> bool {
        references.iter().all(|reference| self.admitted[of].through.may_read(self.namespace, reference))
    }
}

/// A gathering under way.
struct Sorting<'s, 'g, J> {
    of: &'s Gathering<'g>,
    /// The answers of the second round, by place and question.
    answers: HashMap<(usize, &'g Question), &'g Answer>,
    judge: J,
    gathered: Gathered<'g>,
    errors: Vec<ReadError>,
}

impl<'g, J: FnMut(usize, &Source, Sight) -> Verdict> Sorting<'_, 'g, J> {
    fn fail(&mut self, error: ReadError) -> compose::Found<'g> {
        self.errors.push(error);
        compose::Found::Gone
    }

    fn value(&mut self, of: usize, held: &'g Arc<Held>, inner: &'g [String]) -> compose::Found<'g> {
        let planned = &self.of.plan.questions[of];
        let reading = held.reading();
        if let Question::Value(source) = &planned.question {
            (self.judge)(of, source, Sight::There);
        }
        match self.of.served(planned, &planned.question, reading) {
            Ok(served) => self.gathered.read(served),
            Err(error) => self.errors.push(error),
        }
        compose::Found::Value(planned.question.to_string(), &reading.value, inner)
    }

    /// A source that was not found: it is gone, or nothing follows from that.
    fn absent(&mut self, of: usize, error: &ReadError) -> compose::Found<'g> {
        let Some((source, previous, arn)) = self.of.mirrored(&self.of.plan.questions[of]) else { return self.fail(error.clone()) };
        if previous.gone {
            self.gathered.gone.push(previous.served.clone());
            return compose::Found::Gone;
        }
        match self.answers.get(&(self.of.place(of), &presence(source, arn))) {
            Some(Err(error)) if error.absent => match (self.judge)(of, source, Sight::Gone) {
                Verdict::Proven => {
                    self.gathered.gone.push(previous.served.clone());
                    compose::Found::Gone
                }
                Verdict::Waiting(why) => self.fail(ReadError { message: format!("{}; {why}", error.message), ..ReadError::clone(error) }),
            },
            Some(Err(error)) => self.fail(ReadError::clone(error)),
            // It is there after all: the answers were given at different moments.
            Some(Ok(_)) => {
                (self.judge)(of, source, Sight::There);
                self.fail(error.clone())
            }
            None => self.fail(error.clone()),
        }
    }

    /// What an entry takes of a listing, and what it had taken before.
    fn listed(&mut self, entry: &Entry, listed: &'g [Found], search: &Search, naming: &Naming) -> compose::Found<'g> {
        let before = self.errors.len();
        let (of, place) = (entry.question, self.of.place(entry.question));
        let mut members: Vec<(String, String, &'g Value)> = Vec::new();
        for member in self.of.members(of, listed, search, naming) {
            let question = Question::Value(member.source.clone());
            let reading = match (member.reading, self.answers.get(&(place, &question))) {
                (Some(reading), _) => Ok(reading),
                (None, Some(Ok(held))) => Ok(held.reading()),
                (None, Some(Err(error))) => Err(ReadError::clone(error)),
                (None, None) => Err(unanswered(&question)),
            };
            match reading {
                Ok(reading) => {
                    (self.judge)(of, &member.source, Sight::There);
                    members.extend(self.member(of, member.name, &question, reading));
                }
                Err(error) => self.errors.push(error),
            }
        }
        if let Some(uri) = self.of.revoked(of, listed, search, naming) {
            self.errors.push(not_allowed(&self.of.plan.questions[of].provider, self.of.namespace, &uri, None));
        }
        let mut gone: Vec<Served> = Vec::new();
        for (source, served) in self.of.missing(of, listed, search, naming) {
            let Some(name) = search.name_of(&source) else { continue };
            match self.answers.get(&(place, &presence(&source, &served.version.arn))) {
                Some(Ok(held)) => {
                    // Tags it may have lost. Without any its name alone makes it one of the list, which is wrong then, for however long.
                    let may_leave = matches!(&self.of.plan.questions[of].question, Question::List(listing) if !listing.tags.is_empty());
                    if (self.judge)(of, &source, Sight::Unlisted) != Verdict::Proven || !may_leave {
                        self.gathered.relook = true;
                        members.extend(self.member(of, name, &Question::Value(source), held.reading()));
                    }
                }
                Some(Err(error)) if error.absent => match (self.judge)(of, &source, Sight::Gone) {
                    Verdict::Proven => gone.push(served.clone()),
                    Verdict::Waiting(why) => self.errors.push(ReadError { message: format!("{}; {why}", error.message), ..ReadError::clone(error) }),
                },
                Some(Err(error)) => self.errors.push(ReadError::clone(error)),
                None => self.errors.push(unanswered(&Question::Value(source))),
            }
        }
        if !members.is_empty() {
            members.sort_by(|a, b| a.0.cmp(&b.0));
            return compose::Found::Listed(members);
        }
        // Something is there, and why it can't be had was said.
        if self.errors.len() > before {
            return compose::Found::Gone;
        }
        let planned = &self.of.plan.questions[of];
        gone.extend(
            self.of.previous.iter().filter(|previous| previous.gone && self.of.is_of(previous, planned, search)).map(|previous| previous.served.clone()),
        );
        if self.of.plan.deletion == DeletionPolicy::Retain || gone.is_empty() {
            return self.fail(ReadError::new(
                Reason::SourceNotFound,
                format!("{}: {} finds nothing that the provider allows this namespace to read", entry.field, planned.question),
            ));
        }
        self.gathered.gone.extend(gone);
        compose::Found::Gone
    }

    /// Takes a member, unless the store answered under a name that may not be read.
    fn member(&mut self, of: usize, name: String, question: &Question, reading: &'g Reading) -> Option<(String, String, &'g Value)> {
        let planned = &self.of.plan.questions[of];
        if !self.of.may_read(of, &reading.denotes) {
            self.errors.push(answered_otherwise(&planned.provider, self.of.namespace, &question.to_string()));
            return None;
        }
        match self.of.served(planned, question, reading) {
            Ok(served) => self.gathered.read(served),
            Err(error) => self.errors.push(error),
        }
        Some((name, question.to_string(), &reading.value))
    }
}

/// The question whether what was mirrored is still there.
fn presence(source: &Source, arn: &str) -> Question {
    Question::Presence { source: source.clone(), arn: arn.to_owned() }
}

fn unanswered(question: &Question) -> ReadError {
    ReadError::new(Reason::InternalError, format!("{question}: the reader gave no answer"))
}

/// What a look at a source showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// It is there.
    There,
    /// The store says that there is no such thing.
    Gone,
    /// It is there, and its listing does not have it.
    Unlisted,
}

impl Gathered<'_> {
    fn read(&mut self, served: Served) {
        if !self.sources.contains(&served) {
            self.sources.push(served);
        }
    }
}

/// A plain reference without version, as a status lists it.
fn plain(uri: &str) -> Option<Source> {
    let reference: Reference = uri.parse().ok()?;
    Some(reference.source).filter(|source| source.version.is_none())
}

/// The failure to tell: one that lasts before one that passes.
fn worst(errors: Vec<ReadError>) -> Option<ReadError> {
    errors.into_iter().min_by_key(|error| error.reason.is_passing())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{
            RobotoSecretSpec,
            allow::{AllowRule, OwnAllowRule, Verb},
        },
        controller::providers::Through,
        provider::ServedVersion,
        reader::ScopeId,
        sensitive::Sensitive,
    };

    /// A resource's question to the stores, and what they say. The provider allows everything but what is named `secret`.
    struct Case {
        plan: Plan,
        admitted: Vec<Admitted>,
        previous: Vec<Previous>,
        searched: bool,
        provider: ProviderRef,
    }

    const FIND: &str = "dataFrom: [{find: {store: aws.sm, path: p/}}]";
    const FIND_TAGGED: &str = "dataFrom: [{find: {store: aws.sm, path: p/, tags: {team: shop}}}]";
    const TWO: &str = "data: [{key: a, uri: 'aws.sm://a'}, {key: b, uri: 'aws.sm://b'}]";

    fn case(policy: &str, spec: &str, previous: &[&str]) -> Case {
        let spec: RobotoSecretSpec = serde_yaml::from_str(&format!("{{target: {{deletionPolicy: {policy}}}, {spec}}}")).expect("a spec");
        let plan = Plan::new(&spec).expect("a plan");
        let references = vec!["aws.sm://*".into(), "aws.sm://p/[ab]".into(), "aws.sm://p/a*".into(), "aws.sm://p/b*".into()];
        let rules: Arc<[AllowRule]> = [OwnAllowRule { references, verbs: vec![Verb::Read], ..OwnAllowRule::default() }.for_all()].into();
        let through = Through { scope: ScopeId(1), rules, labels: Arc::default(), generation: 1, confirmed: None, recovered: 0 };
        let admitted = plan.questions.iter().map(|planned| Admitted { through: through.clone(), candidates: vec![(planned.question.clone(), Vec::new())] });
        let previous = previous.iter().map(|uri| {
            let (uri, gone) = uri.strip_suffix(" gone").map_or((*uri, false), |uri| (uri, true));
            Previous { served: Served { uri: uri.into(), provider: None, version: version(uri), region: None, record: None }, gone }
        });
        Case { admitted: admitted.collect(), previous: previous.collect(), plan, searched: true, provider: ProviderRef::default() }
    }

    fn version(uri: &str) -> ServedVersion {
        ServedVersion { arn: format!("arn:of {uri}"), id: "1".into(), created: None, region: None }
    }

    fn source(uri: &str) -> Source {
        uri.parse::<Reference>().expect("a reference").source
    }

    fn reading(uri: &str) -> Reading {
        Reading { value: Value::Text(Sensitive::from(format!("value of {uri}"))), version: version(uri), denotes: vec![uri.to_owned()], record: None }
    }

    #[allow(clippy::unnecessary_wraps)] // Answers come as results.
    fn held(reading: Reading) -> Answer {
        Ok(Arc::new(Held::new(reading, [Arc::default(), Arc::default()])))
    }

    fn there(uri: &str) -> Answer {
        held(reading(uri))
    }

    /// A listing; what ends in a star comes with its value.
    fn listed(uris: &[&str]) -> Answer {
        let found = |uri: &&str| {
            let name = uri.trim_end_matches('*');
            Found { source: source(name), reading: (name != *uri).then(|| reading(name)) }
        };
        held(Reading { value: Value::List(uris.iter().map(found).collect()), version: version("list"), denotes: Vec::new(), record: None })
    }

    fn failed(reason: Reason, absent: bool) -> Answer {
        Err(ReadError { absent, ..ReadError::new(reason, "because") })
    }

    fn missing() -> Answer {
        failed(Reason::SourceNotFound, false)
    }

    fn gone() -> Answer {
        failed(Reason::SourceNotFound, true)
    }

    impl Case {
        fn gathering(&self) -> Gathering<'_> {
            Gathering {
                plan: &self.plan,
                admitted: &self.admitted,
                namespace: "shop",
                previous: &self.previous,
                searched: self.searched,
                provider: &self.provider,
            }
        }

        fn needs(&self, first: &[Answer]) -> Result<Vec<String>, String> {
            let shown = |need: &Need| match &need.question {
                Question::Presence { source, arn } => format!("is {source} there ({arn})"),
                other => other.to_string(),
            };
            self.gathering().needs(first).map(|needs| needs.iter().map(shown).collect()).map_err(|error| error.to_string())
        }

        /// What comes of both rounds, in words. Every absence is `proven`, or waits.
        fn outcome(&self, first: &[Answer], second: Vec<Answer>, proven: bool) -> Result<String, String> {
            let gathering = self.gathering();
            let needs = gathering.needs(first).expect("needs");
            assert_eq!(needs.len(), second.len(), "{needs:?}");
            let second: Vec<(Need, Answer)> = needs.into_iter().zip(second).collect();
            let judge = |_: usize, _: &Source, _: Sight| if proven { Verdict::Proven } else { Verdict::Waiting("wait".into()) };
            let gathered = gathering.gather(first, &second, judge).map_err(|error| error.to_string())?;
            let uris = |served: &[Served]| served.iter().map(|served| served.uri.trim_start_matches("aws.sm://").to_owned()).collect::<Vec<_>>().join(" ");
            let found = gathered.found.iter().map(|found| match found {
                compose::Found::Value(uri, ..) => uri.trim_start_matches("aws.sm://").to_owned(),
                compose::Found::Listed(members) => format!("[{}]", members.iter().map(|(name, ..)| name.as_str()).collect::<Vec<_>>().join(" ")),
                compose::Found::Gone => "-".to_owned(),
            });
            let relook = if gathered.relook { ", look again" } else { "" };
            Ok(format!("{}; read {}; gone {}{relook}", found.collect::<Vec<_>>().join(", "), uris(&gathered.sources), uris(&gathered.gone)))
        }
    }

    #[test]
    fn members_that_came_without_values_are_asked_for_if_they_are_allowed() {
        let case = case("Retain", FIND, &[]);
        let first = [listed(&["aws.sm://p/a1", "aws.sm://p/b1*", "aws.sm://p/secret", "aws.sm://q/a"])];
        assert_eq!(case.needs(&first), Ok(vec!["aws.sm://p/a1".into()]));
        assert_eq!(case.outcome(&first, vec![there("aws.sm://p/a1")], false), Ok("[p/a1 p/b1]; read p/a1 p/b1; gone ".into()));
    }

    #[test]
    fn a_member_that_fails_fails_the_whole() {
        let case = case("DropKeys", FIND, &[]);
        let first = [listed(&["aws.sm://p/a1", "aws.sm://p/a2"])];
        let outcome = case.outcome(&first, vec![failed(Reason::Throttled, false), failed(Reason::AccessDenied, false)], true);
        assert_eq!(outcome, Err("AccessDenied: because".into()), "what lasts is told first");
        assert_eq!(case.outcome(&first, vec![there("aws.sm://p/a1"), missing()], true), Err("SourceNotFound: because".into()));
        let elsewhere = held(Reading { denotes: vec!["aws.sm://p/secret".into()], ..reading("aws.sm://p/a2") });
        let denied = case.outcome(&first, vec![there("aws.sm://p/a1"), elsewhere], true).expect_err("answered under another name");
        assert!(denied.starts_with("NotAllowed") && !denied.contains("p/secret"), "{denied}");
    }

    #[test]
    fn a_member_that_a_listing_lost_is_asked_for_by_name() {
        for policy in ["Retain", "DropKeys", "Delete"] {
            let case = case(policy, FIND_TAGGED, &["aws.sm://p/a1", "aws.sm://p/a2"]);
            let first = [listed(&["aws.sm://p/a1*"])];
            assert_eq!(case.needs(&first), Ok(vec!["is aws.sm://p/a2 there (arn:of aws.sm://p/a2)".into()]));
            let outcome = |answer, proven| case.outcome(&first, vec![answer], proven);
            assert_eq!(outcome(there("aws.sm://p/a2"), false), Ok("[p/a1 p/a2]; read p/a1 p/a2; gone , look again".into()), "it only was not listed");
            assert_eq!(outcome(there("aws.sm://p/a2"), true), Ok("[p/a1]; read p/a1; gone ".into()), "it does not match any more");
            assert_eq!(outcome(gone(), false), Err("SourceNotFound: because; wait".into()));
            assert_eq!(outcome(gone(), true), Ok("[p/a1]; read p/a1; gone ".into()));
            assert_eq!(outcome(missing(), true), Err("SourceNotFound: because".into()), "not for certain");
            assert_eq!(outcome(failed(Reason::ProviderUnavailable, false), true), Err("ProviderUnavailable: because".into()));
        }
    }

    #[test]
    fn what_is_there_and_has_no_tags_to_lose_belongs_to_its_listing() {
        let case = case("DropKeys", FIND, &["aws.sm://p/a1", "aws.sm://p/a2"]);
        let outcome = |answer| case.outcome(&[listed(&["aws.sm://p/a1*"])], vec![answer], true);
        assert_eq!(outcome(there("aws.sm://p/a2")), Ok("[p/a1 p/a2]; read p/a1 p/a2; gone , look again".into()), "the list is cut short");
        assert_eq!(outcome(gone()), Ok("[p/a1]; read p/a1; gone ".into()));
    }

    #[test]
    fn what_an_edited_search_does_not_find_is_neither_asked_for_nor_kept() {
        for policy in ["Retain", "DropKeys", "Delete"] {
            let edited = Case { searched: false, ..case(policy, FIND, &["aws.sm://p/a1", "aws.sm://p/a2", "aws.sm://p/secret"]) };
            let first = [listed(&["aws.sm://p/a1*"])];
            assert_eq!(edited.needs(&first), Ok(vec![]));
            assert_eq!(edited.outcome(&first, vec![], false), Ok("[p/a1]; read p/a1; gone ".into()));
            let nothing = edited.outcome(&[listed(&[])], vec![], false).expect_err("an empty Secret would look as if all were well");
            assert!(nothing.contains("finds nothing"), "{nothing}");
            let said = edited.outcome(&[listed(&["aws.sm://p/a1*", "aws.sm://p/secret"])], vec![], false).expect_err("it is found and not allowed any more");
            assert!(said.starts_with("NotAllowed"), "{said}");
        }
    }

    #[test]
    fn the_tags_of_a_parameter_are_gone_with_its_value_and_not_without_it() {
        let tags = "{key: t, uri: 'aws.sm://a', metadata: tags}";
        let named = |case: Case| {
            let by_name = |mut previous: Previous| {
                if previous.served.uri.starts_with("tags") {
                    previous.served.version.arn = "a".into();
                }
                previous
            };
            Case { previous: case.previous.into_iter().map(by_name).collect(), ..case }
        };
        let both = named(case(
            "DropKeys",
            &format!("data: [{{key: a, uri: 'aws.sm://a'}}, {{key: b, uri: 'aws.sm://b'}}, {tags}]"),
            &["aws.sm://a", "aws.sm://b", "tags of aws.sm://a"],
        ));
        let first = [missing(), there("aws.sm://b"), missing()];
        assert_eq!(both.needs(&first), Ok(vec!["is aws.sm://a there (arn:of aws.sm://a)".into()]), "one question for both");
        assert_eq!(both.outcome(&first, vec![gone()], true), Ok("-, b, -; read b; gone a tags of aws.sm://a".into()));
        let alone = named(case("DropKeys", &format!("data: [{tags}]"), &["tags of aws.sm://a"]));
        assert_eq!((alone.needs(&[missing()]), alone.outcome(&[missing()], vec![], true)), (Ok(vec![]), Err("SourceNotFound: because".into())));
    }

    #[test]
    fn what_another_entry_or_provider_read_or_a_rule_forbids_is_not_missed() {
        let previous = ["aws.sm://q/x", "aws.sm://p/a1?version-stage=OLD", "aws.sm://p/a9 gone", "tags of aws.sm://p/a1"];
        assert_eq!(case("Retain", FIND, &previous).needs(&[listed(&["aws.sm://p/a1*"])]), Ok(vec![]));
        let both = case("Retain", "dataFrom: [{find: {store: aws.sm, path: p/}}], data: [{key: k, uri: 'aws.sm://p/a2'}]", &["aws.sm://p/a2"]);
        assert_eq!(both.needs(&[listed(&["aws.sm://p/a1*"]), there("aws.sm://p/a2")]), Ok(vec![]));
        let mut foreign = case("Retain", FIND, &["aws.sm://p/a2"]);
        foreign.previous[0].served.provider = Some("other".into());
        assert_eq!(foreign.needs(&[listed(&["aws.sm://p/a1*"])]), Ok(vec![]));
        let excluded = case("Retain", "dataFrom: [{find: {store: aws.sm, path: p/}, exclude: [a2]}]", &["aws.sm://p/a2"]);
        assert_eq!(excluded.needs(&[listed(&["aws.sm://p/a1*", "aws.sm://p/a2"])]), Ok(vec![]), "what is excluded is neither read nor missed");
    }

    #[test]
    fn what_the_provider_does_not_allow_any_more_takes_no_key_away() {
        for policy in ["Retain", "DropKeys", "Delete"] {
            let told = |spec: &str| {
                case(policy, spec, &["aws.sm://p/a1", "aws.sm://p/secret"]).outcome(&[listed(&["aws.sm://p/a1*", "aws.sm://p/secret"])], vec![], true)
            };
            let said = told(FIND).expect_err("it was mirrored");
            assert!(said.starts_with("NotAllowed") && said.contains("aws.sm://p/secret"), "{said}");
            assert_eq!(told("dataFrom: [{find: {store: aws.sm, path: p/}, exclude: [secret]}]"), Ok("[p/a1]; read p/a1; gone ".into()));
        }
    }

    #[test]
    fn an_empty_listing_takes_keys_away_only_as_the_policy_says() {
        let nothing = "SourceNotFound: spec.dataFrom[0]: aws.sm://p/** finds nothing that the provider allows this namespace to read";
        let (first, lost) = ([listed(&[])], ["aws.sm://p/a1"]);
        for policy in ["Retain", "DropKeys", "Delete"] {
            assert_eq!(case(policy, FIND, &[]).outcome(&first, vec![], true), Err(nothing.into()), "nothing was ever found");
            assert_eq!(case(policy, FIND, &lost).outcome(&first, vec![gone()], false), Err("SourceNotFound: because; wait".into()));
        }
        assert_eq!(case("Retain", FIND, &lost).outcome(&first, vec![gone()], true), Err(nothing.into()));
        for policy in ["DropKeys", "Delete"] {
            assert_eq!(case(policy, FIND, &lost).outcome(&first, vec![gone()], true), Ok("-; read ; gone p/a1".into()));
            assert_eq!(case(policy, FIND, &["aws.sm://p/a1 gone"]).outcome(&first, vec![], false), Ok("-; read ; gone p/a1".into()), "it stays gone");
        }
    }

    #[test]
    fn an_absent_value_is_an_error_unless_its_absence_is_proven_and_means_something() {
        let (first, both) = ([there("aws.sm://a"), missing()], ["aws.sm://a", "aws.sm://b"]);
        let error = || Err("SourceNotFound: because".to_owned());
        assert_eq!(case("Retain", TWO, &both).needs(&first), Err("SourceNotFound: because".to_owned()));
        for policy in ["DropKeys", "Delete"] {
            assert_eq!(case(policy, TWO, &["aws.sm://a"]).needs(&first), Ok(vec![]), "it was never mirrored");
            assert_eq!(case(policy, TWO, &["aws.sm://a"]).outcome(&first, vec![], true), error());
            let case = case(policy, TWO, &both);
            assert_eq!(case.needs(&first), Ok(vec!["is aws.sm://b there (arn:of aws.sm://b)".into()]));
            assert_eq!(case.outcome(&first, vec![gone()], false), Err("SourceNotFound: because; wait".into()));
            for answer in [missing(), there("aws.sm://b")] {
                assert_eq!(case.outcome(&first, vec![answer], true), error());
            }
        }
        assert_eq!(case("DropKeys", TWO, &both).outcome(&first, vec![gone()], true), Ok("a, -; read a; gone b".into()));
        let remembered = case("DropKeys", TWO, &["aws.sm://a", "aws.sm://b gone"]);
        assert_eq!(remembered.outcome(&first, vec![], false), Ok("a, -; read a; gone b".into()), "what was proven once needs no second proof");
        let back = case("DropKeys", TWO, &["aws.sm://a", "aws.sm://b gone"]);
        assert_eq!(back.outcome(&[there("aws.sm://a"), there("aws.sm://b")], vec![], false), Ok("a, b; read a b; gone ".into()));
    }

    #[test]
    fn the_secret_goes_only_once_all_of_its_sources_are_gone() {
        let case = case("Delete", TWO, &["aws.sm://a", "aws.sm://b"]);
        let partly = case.outcome(&[there("aws.sm://a"), missing()], vec![gone()], true).expect_err("one is still there");
        assert!(partly.contains("aws.sm://b: gone from the store; the Secret is deleted once all"), "{partly}");
        assert_eq!(case.outcome(&[missing(), missing()], vec![gone(), gone()], true), Ok("-, -; read ; gone a b".into()));
    }

    #[test]
    fn the_absence_of_a_version_never_counts() {
        let spec = "data: [{key: a, uri: 'aws.sm://a?version-stage=OLD'}]";
        let case = case("Delete", spec, &["aws.sm://a?version-stage=OLD"]);
        assert_eq!(case.needs(&[missing()]), Ok(vec![]));
        assert_eq!(case.outcome(&[missing()], vec![], true), Err("SourceNotFound: because".into()));
    }
}
