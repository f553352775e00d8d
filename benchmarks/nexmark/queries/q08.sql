-- Persons who put something up for auction in the ten seconds in which they came.
-- tally: nexmark.q08
SELECT p.id, p.name, p.starts, count(*) AS auctions
FROM (
    SELECT
        id, name, date_bin(interval '10 seconds', date_time, timestamp '2015-07-15') AS starts
    FROM nexmark.person
) AS p
JOIN (
    SELECT
        seller, date_bin(interval '10 seconds', date_time, timestamp '2015-07-15') AS starts
    FROM nexmark.auction
) AS a ON a.seller = p.id AND a.starts = p.starts
GROUP BY p.id, p.name, p.starts
