"""The gateway's side that speaks to the exchange: protocol.md is the law here.

``wire``, ``session``, ``line``, ``interest``, ``backoff`` and ``handover`` decide and are pure;
``rest`` [httpx], ``connection`` [websockets], ``pool``, ``markets`` and ``audit`` wait.
"""
