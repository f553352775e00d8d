-- Bids, bidders and auctions of each minute, by price.
-- tally: nexmark.q15
SELECT
    date_trunc('minute', b.date_time) AS minute,
    count(*) AS bids,
    count(*) FILTER (WHERE b.price < 10000) AS small_bids,
    count(*) FILTER (WHERE b.price >= 10000 AND b.price < 1000000) AS medium_bids,
    count(*) FILTER (WHERE b.price >= 1000000) AS large_bids,
    count(DISTINCT b.bidder) AS bidders,
    count(DISTINCT b.bidder) FILTER (WHERE b.price < 10000) AS small_bidders,
    count(DISTINCT b.auction) AS auctions,
    count(DISTINCT b.auction) FILTER (WHERE b.price >= 1000000) AS large_auctions
FROM nexmark.bid AS b
GROUP BY 1
