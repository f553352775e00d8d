-- Of each auction and hour: how many bids, and their prices.
-- tally: nexmark.q17
SELECT
    b.auction,
    date_trunc('hour', b.date_time) AS hour,
    count(*) AS bids,
    count(*) FILTER (WHERE b.price < 10000) AS small_bids,
    count(*) FILTER (WHERE b.price >= 1000000) AS large_bids,
    min(b.price) AS lowest,
    max(b.price) AS highest,
    avg(b.price) AS average,
    sum(b.price) AS total
FROM nexmark.bid AS b
GROUP BY 1, 2
