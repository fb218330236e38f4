"""What the local semgrep rules must find, and what they must not. Never run, only read by semgrep.

``make security`` tries it: each comment names the rule that must (``ruleid``) or must not (``ok``)
strike on the next line.
"""


async def waits(work, log, token, api_key, self, url, count):
    # ruleid: no-wait-for
    await asyncio.wait_for(work, 1)
    # ok: no-wait-for
    await asyncio.wait({work}, timeout=1)
    # ruleid: no-bare-except
    try:
        work()
    except:
        pass
    # ok: no-bare-except
    try:
        work()
    except BaseException:
        log.error("broken")
        raise
    # ok: no-bare-except
    try:
        work()
    except ValueError:
        pass
    # ruleid: no-made-up-log-line
    log.info(f"hello {count}")
    # ruleid: no-made-up-log-line
    log.warning("hello %s" % count)
    # ok: no-made-up-log-line
    log.info("hello", count=count)
    # ruleid: no-secret-in-a-log-line
    log.info("hello", found=token)
    # ruleid: no-secret-in-a-log-line
    log.info("hello", found=str(settings.api_key))
    # ok: no-secret-in-a-log-line
    log.info("hello", tokens=count)
    # ruleid: no-code-from-data
    eval(work)
    # ruleid: no-code-from-data
    pickle.loads(work)
    # ok: no-code-from-data
    json.loads(work)
    # ruleid: no-unverified-tls
    connect(url, verify=False)
    # ok: no-unverified-tls
    connect(url, verify=True)
    # ruleid: no-trusted-proxy-but-ours
    httpx.AsyncClient(timeout=1)
    # ok: no-trusted-proxy-but-ours
    httpx.AsyncClient(trust_env=False)
