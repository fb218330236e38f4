"""The markets on offer, as the market list and the scales call tell (protocol 4.3). PURE."""

import hashlib
from dataclasses import dataclass

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_NAMES = {
    "BTC": "Bitcoin",
    "ETH": "Ethereum",
    "SOL": "Solana",
    "TRX": "Tron",
    "XRP": "Ripple",
    "DOGE": "Dogecoin",
    "LTC": "Litecoin",
    "TON": "Toncoin",
    "USDT": "Tether USD",
}
_LISTED_MS = 1_711_000_000_000


@dataclass(frozen=True, slots=True)
class Market:
    """`scales[i]` is the price step of scale index i, finest first."""

    symbol: str
    scales: tuple[str, ...] = ("0.01",)

    @property
    def currencies(self) -> tuple[str, str]:
        base, _, quote = self.symbol.partition("_")
        return base, quote

    def row(self, *, names: bool) -> dict[str, str]:
        base, quote = self.currencies
        seed = hashlib.sha256(self.symbol.encode()).digest()
        row = {
            "id": ulid(_LISTED_MS, int.from_bytes(seed[:10])),
            "symbol": self.symbol,
            "baseCurrency": base,
            "quoteCurrency": quote,
            "baseMinSize": "0.0000100000000000",
            "quoteMinSize": "0.1000000000000000",
            "baseMaxSize": "10000000000.0000000000000000",
            "quoteMaxSize": "99999999.0000000000000000",
            "basePrec": "8",
            "quotePrec": "6",
        }
        if names:
            row["baseCurrencyFullName"] = _NAMES.get(base, base)
            row["quoteCurrencyFullName"] = _NAMES.get(quote, quote)
        return row

    def scale_rows(self) -> list[dict[str, str | int]]:
        return [{"scale": scale, "index": index} for index, scale in enumerate(self.scales)]


class Listing:
    """All markets by symbol; new ones may be listed while the exchange runs."""

    def __init__(self, markets: tuple[Market, ...] = ()) -> None:
        self.markets = {market.symbol: market for market in markets}

    def add(self, market: Market) -> None:
        self.markets[market.symbol] = market

    @property
    def currencies(self) -> list[str]:
        seen = {name: None for market in self.markets.values() for name in market.currencies}
        return list(seen)

    def knows(self, kind: str, subject: str) -> bool:
        """Whether `subject` can be subscribed to on channels of this kind."""
        if kind == "balance":
            return subject in self.currencies
        if kind == "depth":
            symbol, _, index = subject.partition(":")
            market = self.markets.get(symbol)
            return market is not None and index in map(str, range(len(market.scales)))
        return subject in self.markets

    def books(self) -> list[str]:
        """Every market:scale there is."""
        return [
            f"{market.symbol}:{index}"
            for market in self.markets.values()
            for index in range(len(market.scales))
        ]


def ulid(milliseconds: int, entropy: int) -> str:
    """26 characters: 48 bits of time, 80 of anything (protocol 3.8)."""
    value = (milliseconds & (1 << 48) - 1) << 80 | entropy & (1 << 80) - 1
    return "".join(_ALPHABET[value >> shift & 31] for shift in range(125, -1, -5))
