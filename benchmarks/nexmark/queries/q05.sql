-- The auctions with the most bids of each ten seconds.
-- tally: nexmark.q05
SELECT counted.auction, counted.starts, counted.bids
FROM (
    SELECT
        b.auction,
        date_bin(interval '10 seconds', b.date_time, timestamp '2015-07-15') AS starts,
        count(*) AS bids,
        rank() OVER (
            PARTITION BY date_bin(interval '10 seconds', b.date_time, timestamp '2015-07-15')
            ORDER BY count(*) DESC
        ) AS place
    FROM nexmark.bid AS b
    GROUP BY 1, 2
) AS counted
WHERE counted.place = 1
