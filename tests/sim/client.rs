//! Clients: people who want to come in, impatient ones, programs that repeat themselves, guessers.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use countersign::domain::phone::Phone;
use countersign::verifier::Checked;
use tokio::task::JoinSet;

use crate::invariants::Invariant;
use crate::millis;
use crate::verbs::{Key, Person, Session};
use crate::world::World;

/// What a client does next.
#[derive(Clone, Copy)]
enum Deed {
    Begin,
    Resend,
    ComeIn,
    GuessWrong,
    TryOldCode,
    GuessAtOnce,
    Cancel,
    UseOneChallengeOften,
    Look,
}

/// Deeds, each with how often it is done out of a hundred times.
const USUAL: [(Deed, u64); 9] = [
    (Deed::Begin, 22),
    (Deed::Resend, 18),
    (Deed::ComeIn, 28),
    (Deed::GuessWrong, 10),
    (Deed::TryOldCode, 4),
    (Deed::GuessAtOnce, 6),
    (Deed::Cancel, 4),
    (Deed::UseOneChallengeOften, 4),
    (Deed::Look, 4),
];

fn phone(number: u64) -> Phone {
    Phone::from_e164(&format!("+86138{:08}", 100 + number)).unwrap()
}

impl World {
    /// Clients come, do what they want, and go.
    pub(crate) async fn act(self: &Arc<Self>) {
        let mut clients = JoinSet::new();
        for client in 0..self.plan.clients {
            let world = Arc::clone(self);
            if self.plan.guesser && client == 0 {
                clients.spawn(world.guess_for_long());
            } else if !self.plan.guesser {
                clients.spawn(world.client());
            }
        }
        while clients.join_next().await.is_some() {}
    }

    fn person(&self) -> Person {
        let dice = &self.dice;
        let tenant = *dice.pick(&["shop", "shop", "bank", "seed"]);
        let purpose =
            if tenant == "seed" { "login" } else { *dice.pick(&["login", "login", "pay"]) };
        let host = u8::try_from(dice.below(3)).unwrap();
        let address = IpAddr::V4(Ipv4Addr::new(203, 0, 113, host));
        let number = dice.below(self.plan.phones as u64);
        let address = (tenant != "bank").then_some(address);
        Person { tenant, purpose, address, phone: phone(number) }
    }

    async fn client(self: Arc<Self>) {
        for _ in 0..self.plan.deeds {
            tokio::time::sleep(millis(self.dice.mostly_small(40_000))).await;
            let mut drawn = self.dice.below(100);
            let deed = USUAL.iter().find(|(_, often)| {
                let this = drawn < *often;
                drawn = drawn.saturating_sub(*often);
                this
            });
            let deed = deed.map_or(Deed::Look, |(deed, _)| *deed);
            self.do_deed(deed).await;
        }
    }

    async fn do_deed(self: &Arc<Self>, deed: Deed) {
        match (deed, self.some_session()) {
            (Deed::UseOneChallengeOften, _) => self.use_one_challenge_often().await,
            (Deed::Begin, _) | (_, None) => self.begin_somehow().await,
            (Deed::Resend, Some(session)) => self.resend_somehow(&session).await,
            (Deed::ComeIn, Some(session)) => self.come_in(&session).await,
            (Deed::GuessWrong, Some(session)) => drop(self.check(&session, &self.guess()).await),
            (Deed::TryOldCode, Some(session)) => self.try_old_code(&session).await,
            (Deed::GuessAtOnce, Some(session)) => self.guess_at_once(&session).await,
            (Deed::Cancel, Some(session)) => self.cancel(&session).await,
            (Deed::Look, Some(session)) => self.look(&session).await,
        }
    }

    /// A start, with or without key and challenge, once or more often.
    async fn begin_somehow(self: &Arc<Self>) {
        let person = self.person();
        let asks = person.tenant == "seed" || self.dice.percent(40);
        let right = self.dice.percent(80);
        let proof = if asks { self.solve(&person, person.tenant == "seed", right) } else { None };
        let keyed = person.tenant != "seed" && self.dice.percent(60);
        let key = keyed.then(|| self.key(person.phone.e164()));
        let begin = |world: Arc<Self>| {
            let (person, key, proof) = (person.clone(), key.clone(), proof.clone());
            async move { drop(world.begin(&person, key.as_ref(), proof.as_ref()).await) }
        };
        self.somehow(begin, keyed).await;
        if let Some(key) = key.filter(|_| self.dice.percent(8)) {
            let other = Key { body: "something else".to_owned(), ..key };
            self.begin(&person, Some(&other), None).await;
        }
    }

    async fn resend_somehow(self: &Arc<Self>, session: &Session) {
        if self.dice.percent(60) {
            // As people do it: nothing has come, and the button is there again.
            tokio::time::sleep(millis(self.plan.policy.phone_gap.unsigned_abs() + 1)).await;
        }
        let keyed = self.dice.percent(50);
        let key = keyed.then(|| self.key(&session.id.to_string()));
        let resend = |world: Arc<Self>| {
            let (session, key) = (session.clone(), key.clone());
            async move { drop(world.resend(&session, key.as_ref()).await) }
        };
        self.somehow(resend, keyed).await;
    }

    fn key(&self, about: &str) -> Key {
        Key { key: format!("key-{}", self.dice.below(1 << 40)), body: about.to_owned() }
    }

    /// Once, or twice at once; and where a key makes it safe, again some time later.
    async fn somehow<F>(self: &Arc<Self>, request: impl Fn(Arc<Self>) -> F, keyed: bool)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut at_once = JoinSet::new();
        for _ in 0..if self.dice.percent(20) { 2 } else { 1 } {
            at_once.spawn(request(Arc::clone(self)));
        }
        while at_once.join_next().await.is_some() {}
        while keyed && self.dice.percent(40) {
            // At once, after a lost request's hold has ended, after a gap.
            let longest = *self.dice.pick(&[500, 5000, 20_000, 20_000, 70_000]);
            tokio::time::sleep(millis(self.dice.between(longest / 2, longest))).await;
            request(Arc::clone(self)).await;
            self.saw("key_again");
        }
    }

    fn guess(&self) -> String {
        format!("{:06}", self.dice.below(1_000_000))
    }

    /// A person waits for the message, types the code, and mistypes it now and then.
    async fn come_in(self: &Arc<Self>, session: &Session) {
        for _ in 0..8 {
            if let Some(text) = self.inbox(session.person.phone.e164()).pop() {
                let checked = self.check(session, &text.code).await;
                let again = matches!(checked, Some(Checked::Approved(_))) && self.dice.percent(30);
                if again {
                    self.saw("used_code");
                    self.check(session, &text.code).await;
                }
                return;
            }
            tokio::time::sleep(millis(3000)).await;
        }
    }

    async fn try_old_code(self: &Arc<Self>, session: &Session) {
        let mut texts = self.inbox(session.person.phone.e164());
        texts.pop();
        if let Some(text) = texts.pop() {
            self.saw("old_code");
            self.check(session, &text.code).await;
        }
    }

    async fn guess_at_once(self: &Arc<Self>, session: &Session) {
        self.saw("crowd");
        let right = self.inbox(session.person.phone.e164()).pop().map(|text| text.code);
        let mut guesses = JoinSet::new();
        for _ in 0..self.dice.between(2, 9) {
            let right = right.clone().filter(|_| self.dice.percent(30));
            let guess = right.unwrap_or_else(|| self.guess());
            let (world, session) = (Arc::clone(self), session.clone());
            guesses.spawn(async move { drop(world.check(&session, &guess).await) });
        }
        while guesses.join_next().await.is_some() {}
    }

    async fn use_one_challenge_often(self: &Arc<Self>) {
        let person = self.person();
        let Some(proof) = self.solve(&person, self.dice.percent(50), true) else { return };
        let mut starts = JoinSet::new();
        for number in 0..self.dice.between(2, 4) {
            let person = Person { phone: phone(number), ..person.clone() };
            let (world, proof) = (Arc::clone(self), proof.clone());
            starts.spawn(async move { drop(world.begin(&person, None, Some(&proof)).await) });
        }
        while starts.join_next().await.is_some() {}
    }

    /// One that guesses for days: codes as fast as limits let them come, and every guess of each.
    async fn guess_for_long(self: Arc<Self>) {
        let (tenant, purpose, address) = ("bank", "login", None);
        let person = Person { tenant, purpose, address, phone: phone(0) };
        let session = self.some_session();
        for _ in 0..5 {
            let resends = session.is_some() && self.dice.percent(30);
            let id = match &session {
                Some(session) if resends => self.resend(session, None).await.map(|it| it.id),
                _ => self.begin(&person, None, None).await.map(|it| it.id),
            };
            let known = session.as_ref().map(|it| it.id).filter(|_| self.dice.percent(20));
            let Some(id) = id.or(known) else { continue };
            let session = Session { person: person.clone(), id };
            for _ in 0..6 {
                self.check(&session, &self.guess()).await;
            }
            tokio::time::sleep(millis(self.plan.policy.phone_gap.unsigned_abs())).await;
        }
    }

    /// When all is mended, a person comes in.
    pub(crate) async fn epilogue(self: &Arc<Self>) {
        let (tenant, purpose, address) = ("shop", "login", None);
        let person = Person { tenant, purpose, address, phone: phone(5000) };
        let Some(view) = self.begin(&person, None, None).await else {
            return self.judge(|oracle| oracle.breach(Invariant::ItWorks, "no start"));
        };
        let session = Session { person: person.clone(), id: view.id };
        for _ in 0..60 {
            tokio::time::sleep(millis(500)).await;
            let Some(text) = self.inbox(person.phone.e164()).pop() else { continue };
            let wrong = if text.code == "000000" { "111111" } else { "000000" };
            let first = self.plan.policy.checks_max > 1;
            if first {
                let told = self.check(&session, wrong).await;
                let wrong = matches!(told, Some(Checked::Wrong { .. }));
                let what = "a wrong code is not wrong";
                self.judge(|oracle| {
                    if !wrong {
                        oracle.breach(Invariant::ItWorks, what);
                    }
                });
            }
            let told = self.check(&session, &text.code).await;
            if !matches!(told, Some(Checked::Approved(_))) {
                self.judge(|oracle| oracle.breach(Invariant::ItWorks, "a right code is not right"));
            }
            return;
        }
        self.judge(|oracle| oracle.breach(Invariant::ItWorks, "no message came"));
    }
}
