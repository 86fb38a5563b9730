# What a person types here. `just --list` shows these lines; CONTRIBUTING.md says more.

# All that CI holds: formats, lints, tests, docs, licences, spelling, generated files.
check:
    ./check

# The tests, or those whose name holds a word: `just test kill`.
test *words:
    cargo test --locked --no-fail-fast -- {{ words }}

# The server is killed in mid-flight, again and again; nothing confirmed may be lost.
kills times="200":
    KILLS={{ times }} KILLS_USED=500 cargo test --locked --test it kill -- --nocapture

# Simulated histories, each out of one seed: `just sim`, or `SEED=123 just sim` for one and all of it.
sim seeds="10000":
    SEEDS={{ seeds }} cargo test --locked --test sim the_promises -- --nocapture

# Countersign beside the stack it replaces: figures and how they came about in bench/README.md.
bench *options:
    python3 bench/run.py {{ options }}

# Programs that read pictures against ours: figures and what they mean in docs/challenge.md.
captcha-attack *options:
    bench/captcha/run.sh {{ options }}

# Draws the sheets in docs/challenge.md anew, with the answers below them.
captcha-sheets:
    cargo build --locked --quiet --example captcha_sheet
    python3 bench/captcha/sheets.py target/debug/examples/captcha_sheet

# What comes in from outside, byte by byte: each fuzz target for so long, or those named.
fuzz seconds="60" *targets:
    fuzz/run {{ seconds }} {{ targets }}

# Writes docs/openapi.json anew, from the handlers.
openapi:
    mkdir -p target
    cargo run --locked --quiet -- openapi > target/openapi.json
    cp target/openapi.json docs/openapi.json

# One binary that needs nothing on the machine it runs on.
static:
    RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --release --target x86_64-unknown-linux-gnu
