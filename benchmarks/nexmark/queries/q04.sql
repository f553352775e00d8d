-- The average price of what was sold, by category.
-- tally: nexmark.q04
SELECT sold.category, avg(sold.final) AS average_price
FROM (
    SELECT a.id, a.category, max(b.price) AS final
    FROM nexmark.auction AS a
    JOIN nexmark.bid AS b ON b.auction = a.id AND b.date_time BETWEEN a.date_time AND a.expires
    GROUP BY a.id, a.category
) AS sold
GROUP BY sold.category
